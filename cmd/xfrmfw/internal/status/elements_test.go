package status

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// The count of a device is its tunnel's, and no tunnel's where several share the device.
func TestOwnerOfADevice(t *testing.T) {
	overlays := []firewall.Overlay{
		{Overlay: device.Overlay{Tunnel: "a", Devices: []string{"vti0", "gre1"}}},
		{Overlay: device.Overlay{Tunnel: "b", Devices: []string{"vti0"}}},
		{Overlay: device.Overlay{Tunnel: "a", Devices: []string{"gre1"}}},
	}
	for name, want := range map[string]string{"vti0": "", "gre1": "a", "vti1": ""} {
		if got := overlayOf(overlays, sets.KeyOf(sets.Name(name))); got != want {
			t.Errorf("%s: the count is of %q, want %q", name, got, want)
		}
	}
}
