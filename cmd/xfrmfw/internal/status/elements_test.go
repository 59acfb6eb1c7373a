package status

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
)

// Packets out of a device are their tunnel's, by their source where that is told, and no
// tunnel's where several share a device of any source.
func TestOwnersOfPacketsOutOfDevices(t *testing.T) {
	overlay := func(tunnel, name string, sources ...string) firewall.Overlay {
		o := firewall.Overlay{Overlay: device.Overlay{Tunnel: tunnel, Devices: []string{name}, VTI: sources != nil}}
		for _, s := range sources {
			o.Sources = append(o.Sources, netip.MustParsePrefix(s))
		}
		return o
	}
	f := firewall.Facts{Marks: firewall.DefaultMarks(), Names: map[string]string{"b": "branch"}, Overlays: []firewall.Overlay{
		overlay("a", "vti0", "10.1.0.0/24", "10.9.0.0/24", "fd00:1::/64"),
		overlay("b", "vti0", "10.3.0.0/24", "10.9.0.0/24"),
		overlay("a", "gre1"), overlay("a", "mgre0"), overlay("b", "mgre0"),
	}}
	table := program.Table(&f, program.Options{})
	count := uint64(1)
	for i := range table.Sets {
		s := &table.Sets[i]
		if s.Name == "overlaid" {
			for _, name := range []string{"gre1", "mgre0", "gone0"} {
				s.Elements = append(s.Elements, sets.Element{Key: sets.KeyOf(sets.Name(name))})
			}
		}
		for j := range s.Elements {
			s.Elements[j].Count.Packets = count
			count *= 10
		}
	}
	got := make(map[string]uint64)
	for _, row := range tableRows(table, &f, false) {
		if row.rule.Kind != KindOverlay {
			continue
		}
		got[row.owner+": "+strings.TrimSpace(strings.Split(row.rule.Rule, " counter")[0])] = row.rule.Packets
	}
	want := map[string]uint64{
		"a: \"vti0\" . 10.1.0.0/24": 1, "b: \"vti0\" . 10.3.0.0/24": 10, ": \"vti0\" . 10.9.0.0/24": 100, "a: \"vti0\" . fd00:1::/64": 1000,
		"a: \"gre1\"": 10000, ": \"mgre0\"": 100000, ": \"gone0\"": 1000000,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
