package compile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// The pair of a tunnel that is gone is refused in OUTPUT without a rule for each of the
// tunnels that stand, but for those inside of it, because the kernel holds their packets.
func TestOneDownAmongMany(t *testing.T) {
	var up []sample.Site
	for i := range 200 {
		up = append(up, peer(i+1, fmt.Sprintf("203.0.113.%d", i), [2]string{sunLAN, fmt.Sprintf("10.100.%d.0/24", i)}))
	}
	inside := peer(300, "203.0.113.250", [2]string{sunLAN, "10.50.7.0/24"})
	gone := remember(nil, snapshotOf(sunHost(), peer(400, "203.0.113.251", [2]string{sunLAN, "10.50.0.0/16"})), 1000)
	w := compileInput(t, snapshotOf(sunHost(), append(up, inside)...), firewall.Input{Guards: gone})
	list := 0
	for _, c := range w.result.Rulesets[0].Chains {
		if strings.HasPrefix(c.Name, layout.ChainDown+"-T") {
			list += c.Rules.Len()
		}
	}
	if list != 2 {
		t.Errorf("%d rules tell what is down, want 2: one for the pair, one for the tunnel inside of it", list)
	}
	for to, want := range map[string]bool{"10.50.1.1": true, "10.50.7.1": false, "10.100.3.1": false} {
		p := trace.Packet{Src: addr("10.2.0.1"), Dst: addr(to), Out: "eth0", SrcLocal: true}
		if got := w.leave(p, "OUTPUT"); got.met(rules.PurposeReject) != want {
			t.Errorf("to %s: refused %v, want %v", to, !want, want)
		}
	}
}

// Among many pairs of tunnels that are gone, a packet of this host's own finds its pair in
// the leaf of a split tree, and one to a network between them is sent.
func TestDownInSplitTree(t *testing.T) {
	var sites []sample.Site
	for i := range 200 { // no two are neighbours, which one rule would match
		sites = append(sites, peer(i+1, fmt.Sprintf("203.0.113.%d", i), [2]string{sunLAN, fmt.Sprintf("172.%d.%d.0/24", 16+i/100, 2*(i%100))}))
	}
	w := compileInput(t, snapshotOf(sunHost()), firewall.Input{Guards: remember(nil, snapshotOf(sunHost(), sites...), 1000)})
	for to, want := range map[string]bool{"172.16.0.9": true, "172.16.78.9": true, "172.17.198.9": true, "172.17.77.9": false} {
		p := trace.Packet{Src: addr("10.2.0.1"), Dst: addr(to), Out: "eth0", SrcLocal: true}
		if got := w.leave(p, "OUTPUT"); got.met(rules.PurposeReject) != want {
			t.Errorf("to %s: refused %v, want %v", to, !want, want)
		}
	}
}
