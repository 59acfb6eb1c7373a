package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Missing names the part of the lab that this process lacks, or is empty. scripts/lab
// sets XFRMFW_LAB in the guest. Set elsewhere, it lets the tests load kernel modules on
// that machine.
func Missing() string {
	switch {
	case os.Getenv("XFRMFW_LAB") != "1":
		return `not in the lab VM (XFRMFW_LAB is not 1): run go test -exec "$PWD/scripts/lab" ./test/e2e`
	case os.Geteuid() != 0:
		return "not root"
	}
	for _, tool := range []string{"ip", "iptables", "ip6tables", "modprobe", "ethtool", "ping"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Sprintf("no %s in PATH: run scripts/fetch tools", tool)
		}
	}
	return ""
}

// Required reports whether XFRMFW_REQUIRE, a list with commas, has the name. Tests of a
// name in the list must not be skipped.
func Required(name string) bool {
	for _, required := range strings.Split(os.Getenv("XFRMFW_REQUIRE"), ",") {
		if strings.TrimSpace(required) == name {
			return true
		}
	}
	return false
}

// Lacking skips the test because something is missing, or fails it if XFRMFW_REQUIRE has
// its name.
func Lacking(t testing.TB, name, why string) {
	t.Helper()
	if Required(name) {
		t.Fatalf("%s: %s", name, why)
	}
	t.Skipf("%s: %s", name, why)
}

// Require skips the test, or fails it if XFRMFW_REQUIRE asks for the lab, when it does not run in the lab. A test that
// RunIn has not labelled is for Both stages.
func Require(t testing.TB) {
	t.Helper()
	missing := Missing()
	switch {
	case missing == "":
		RunIn(t, Both)
	default:
		Lacking(t, "lab", missing)
	}
}

// Kernel is the series of the kernel that scripts/lab booted, such as 6.12, or empty elsewhere. User-mode Linux is one
// of 6.1.
func Kernel() string {
	if UML() {
		return "6.1"
	}
	return os.Getenv("XFRMFW_KERNEL")
}

// UML reports whether the lab is user-mode Linux.
func UML() bool { return os.Getenv("XFRMFW_KERNEL") == "uml" }

// NotInUML skips the test in user-mode Linux, which lacks something that other kernels of the lab have.
func NotInUML(t testing.TB, lacks string) {
	t.Helper()
	if UML() {
		t.Skipf("lab: user-mode Linux has no %s", lacks)
	}
}

// Variant is the variant of iptables in the lab: nft or legacy.
func Variant() string {
	if variant := os.Getenv("XFRMFW_VARIANT"); variant != "" {
		return variant
	}
	return "nft"
}
