package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// offloadModules decrypt ESP in GRO, for all SAs of the machine, once they are loaded.
var offloadModules = []string{"esp4_offload", "esp6_offload"}

// ESPOffload reports whether a module that decrypts ESP in GRO is loaded.
func ESPOffload() bool {
	for _, module := range offloadModules {
		if _, err := os.Stat("/sys/module/" + module); err == nil {
			return true
		}
	}
	return false
}

// LoadESPOffload loads the modules that decrypt ESP in GRO, before netfilter, until the test ends. Modules are of the
// whole machine, not of a namespace: tests that use it must not run in parallel with others. It must be called before
// NewNetwork, because the modules can be unloaded only when the test's SAs are gone.
func LoadESPOffload(t testing.TB) {
	t.Helper()
	Require(t)
	modprobe(t, offloadModules...)
	t.Cleanup(func() { UnloadESPOffload(t) })
}

// UnloadESPOffload unloads the modules. The kernel removes the SAs of an ended namespace a little later, and refuses
// until then.
func UnloadESPOffload(t testing.TB) {
	t.Helper()
	Eventually(t, 6*Patience, func() error {
		if !ESPOffload() {
			return nil
		}
		out, err := exec.Command("modprobe", append([]string{"-r"}, offloadModules...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("modprobe -r: %w: %s", err, out)
		}
		return nil
	})
}

// modprobe loads modules.
func modprobe(t testing.TB, modules ...string) {
	t.Helper()
	out, err := exec.Command("modprobe", append([]string{"-a"}, modules...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("modprobe %s: %v: %s", strings.Join(modules, " "), err, out)
	}
}

// EnableGRO switches GRO on for packets from the WAN to the gateways, as on a real
// network card. It switches the veth peer's segmentation off too, because a veth leaves
// GRO out while its peer may send packets larger than the MTU.
func (n *Network) EnableGRO(t testing.TB) {
	t.Helper()
	for gateway, port := range map[*Host]string{n.Moon: "moon0", n.Sun: "sun0"} {
		gateway.Run(t, "ethtool", "-K", "wan0", "gro", "on")
		n.WAN.Run(t, "ethtool", "-K", port, "tx-tcp-segmentation", "off", "tx-tcp-ecn-segmentation", "off",
			"tx-tcp-mangleid-segmentation", "off", "tx-tcp6-segmentation", "off")
	}
}
