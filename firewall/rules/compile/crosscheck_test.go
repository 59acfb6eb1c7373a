package compile

import (
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// Case 3 under enforce: a packet out of a tunnel without the tag that it could have had
// is dropped, in every way in which the policy alone would let it in.
func TestEnforce(t *testing.T) {
	enforce := firewall.Config{Enforce: true}
	untagged := from(1, "10.1.0.10", "10.2.0.10")
	related := untagged
	related.Src, related.Proto, related.ICMPType = addr("172.16.9.9"), xfrm.ICMP, 3
	related.Ct = trace.Conntrack{State: rules.CtRelated, OrigSrc: addr("10.2.0.10"), ReplSrc: addr("10.1.0.10")}
	answered := related
	answered.Ct = trace.Conntrack{State: rules.CtRelated, OrigSrc: addr("10.1.0.10"), ReplSrc: addr("10.2.0.10")}
	comp := sunSite()
	comp.Comp = true
	small := from(1, moonWAN, sunWAN)
	small.Proto, small.DstLocal = xfrm.IPIP, true
	gre := sunSite()
	gre.Transport, gre.Pairs, gre.Proto = true, [][2]string{{sunWAN + "/32", moonWAN + "/32"}}, xfrm.GRE
	greHost := sunHost()
	greHost.Links = append(greHost.Links, xfrm.Link{Index: 7, Name: "gre1", Kind: "gre", Up: true, Local: addr(sunWAN), Remote: addr(moonWAN)})
	carrier := from(1, moonWAN, sunWAN)
	carrier.Proto, carrier.DstLocal = xfrm.GRE, true
	for _, tc := range []struct {
		name  string
		host  xfrm.Host
		site  sample.Site
		p     trace.Packet
		drops rules.Purpose
	}{
		{"between selectors", sunHost(), sunSite(), untagged, rules.PurposeUnconfirmed},
		{"an error from inside", sunHost(), sunSite(), related, rules.PurposeCrossed},
		{"an error from inside, about their flow", sunHost(), sunSite(), answered, rules.PurposeCrossed},
		{"a small packet beside IPComp", sunHost(), comp, small, rules.PurposeCrossed},
		{"the carrier of an overlay", greHost, gre, carrier, rules.PurposeUnconfirmed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := snapshotOf(tc.host, tc.site)
			if w := compileWorld(t, s, firewall.Config{}); w.arrive(tc.p, nil).mark&verified == 0 {
				t.Error("dropped under observe")
			}
			w := compileInput(t, s, firewall.Input{Config: enforce})
			if got := w.arrive(tc.p, nil); got.final != rules.Drop {
				t.Errorf("verdict %s", got.final)
			} else if last := got.steps[len(got.steps)-1].Rule; last.Purpose != tc.drops {
				t.Errorf("dropped as %s, want %s", last.Purpose, tc.drops)
			}
			if got := w.arrive(tagged(tc.p), nil); got.mark&verified == 0 {
				t.Errorf("with the tag: mark %#x", got.mark)
			}
		})
	}
}

// A tunnel with packets that can't be tagged ends enforce for all, with its reason.
func TestEnforceGivesWay(t *testing.T) {
	offloading := sunHost()
	offloading.ESP4Offload = true
	tagging := sunSite()
	tagging.Tune = func(s *xfrm.State, _ bool, _ int) { s.SetMark = xfrm.Mark{Value: tag, Mask: tag} }
	down := sunSite()
	down.Down = true
	for _, tc := range []struct {
		name string
		host xfrm.Host
		site sample.Site
		want string
	}{
		{"nothing in the way", sunHost(), sunSite(), ""},
		{"offload", offloading, sunSite(), "esp4_offload is loaded"},
		{"offload, and states that set the tag", offloading, tagging, ""},
		{"offload, and no state yet", offloading, down, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := snapshotOf(tc.host, tc.site)
			w := compileWorld(t, s, firewall.Config{Enforce: true, Tunnels: []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 1}, Name: "office"}}})
			got := strings.Join(w.result.Unenforceable, "\n")
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("unenforceable %q, want %q", got, tc.want)
			}
			warned := slices.ContainsFunc(w.result.Warnings, func(s string) bool {
				return strings.Contains(s, "not in force") && strings.Contains(s, "office")
			})
			if warned != (tc.want != "") {
				t.Errorf("warnings: %q", w.result.Warnings)
			}
			if p := w.arrive(from(1, "10.1.0.10", "10.2.0.10"), nil); tc.want != "" && p.final != rules.Accept {
				t.Errorf("what can't be tagged was dropped: verdict %s", p.final)
			}
		})
	}
}
