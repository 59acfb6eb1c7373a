package decide

import (
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// A port that a state is received on, and that lockdown closes without it, is named with
// the line that opens it.
func TestUnnamedPorts(t *testing.T) {
	s := sample.Snapshot(sample.Sun(), sample.Moon())
	for i := range s.States {
		s.States[i].Encap = xfrm.Encap{Type: espInUDP, SPort: 4500, DPort: 14500}
	}
	warned := func(lockdown *firewall.Lockdown, ports ...uint16) bool {
		f := Facts(firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks(), WAN: []string{"eth0"}, Lockdown: lockdown, IKEPorts: ports}})
		return slices.ContainsFunc(f.Warnings, func(w string) bool { return strings.Contains(w, "write ike_ports: [14500]") })
	}
	for name, tc := range map[string]struct{ got, want bool }{
		"under lockdown":          {warned(&firewall.Lockdown{}), true},
		"named":                   {warned(&firewall.Lockdown{}, 14500), false},
		"nothing closes the port": {warned(nil), false},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: warned: %v", name, tc.got)
		}
	}
}
