package lab

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Main is the TestMain of a package of tests for the lab. It fails at once where the lab
// is required and a part of it is missing. Where the lab is not required, the tests skip
// themselves.
func Main(m *testing.M) {
	if missing := Missing(); missing != "" && Required("lab") {
		fmt.Fprintln(os.Stderr, "lab:", missing)
		os.Exit(1)
	}
	if Missing() == "" {
		loadESP()
	}
	os.Exit(m.Run())
}

// loadESP has the kernel load and test the ciphers of ESP, by a state that ends with its network. Under emulation that takes
// half a minute, and no IKE daemon's peer waits for so long. Beside other machines it takes longer than the kernel waits for a
// test of its own, and the next attempt finds the cipher ready. A test of ESP fails where each attempt did.
func loadESP() {
	for range 3 {
		out, err := exec.Command("unshare", "--net", "ip", "xfrm", "state", "add", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "1",
			"mode", "tunnel", "aead", "rfc4106(gcm(aes))", fmt.Sprintf("0x%x", Key(1)), "128").CombinedOutput()
		if err == nil {
			return
		}
		fmt.Fprintf(os.Stderr, "lab: load ESP: %v: %s", err, out)
	}
}
