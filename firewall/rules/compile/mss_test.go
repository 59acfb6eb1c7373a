package compile

import (
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

func TestMSSBothWays(t *testing.T) {
	w := restricted(t, sunHost(), firewall.TunnelConfig{MSS: firewall.MSS{Size: 1360}}, sunSite())
	if got := w.arrive(tagged(from(1, "10.1.0.10", "10.2.0.10")), nil); !got.met(rules.PurposeMSS) || got.final != rules.Accept {
		t.Error("not lowered on the way in")
	}
	out := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP,
		OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}}
	if got := w.forward(out); !got.met(rules.PurposeMSS) {
		t.Error("not lowered on the way out")
	}
	w = compileWorld(t, snapshotOf(sunHost(), sunSite()), firewall.Config{})
	if got := w.forward(out); got.met(rules.PurposeMSS) {
		t.Error("lowered, though nobody asked for it")
	}
}

// Two tunnels on one xfrm interface have each its own segment size, both ways: the way out
// is told on the second pass, which has the SA.
func TestMSSOfASharedDevice(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 9, Name: "ipsec0", Kind: "xfrm", IfID: 7})
	site := func(reqid uint32, remote string) sample.Site {
		return sample.Site{Reqid: reqid, Local: sunWAN, Remote: moonWAN, IfID: 7, Pairs: [][2]string{{sunLAN, remote}}}
	}
	sizes := map[uint32]uint16{1: 1300, 2: 1200}
	var tunnels []firewall.TunnelConfig
	for reqid, size := range sizes {
		tunnels = append(tunnels, firewall.TunnelConfig{Match: firewall.Match{Reqid: reqid}, MSS: firewall.MSS{Size: size}})
	}
	w := compileWorld(t, snapshotOf(host, site(1, moonLAN), site(2, "10.3.0.0/24")), firewall.Config{Tunnels: tunnels})
	for reqid, far := range map[uint32]string{1: "10.1.0.10", 2: "10.3.0.10"} {
		in := tagged(from(reqid, far, "10.2.0.10"))
		in.In = "ipsec0"
		out := trace.Packet{Src: addr("10.2.0.10"), Dst: addr(far), In: "eth1", Out: "eth0", Proto: xfrm.TCP,
			OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid, Src: addr(sunWAN), Dst: addr(moonWAN)}}}
		for way, got := range map[string]passage{"in": w.arrive(in, nil), "out": w.last(out)} {
			if lowered := sizesIn(got.steps); !slices.Equal(lowered, []uint16{sizes[reqid]}) {
				t.Errorf("tunnel %d, %s: lowered to %v, want %d once", reqid, way, lowered, sizes[reqid])
			}
		}
	}
}

// sizesIn are the segment sizes that the steps set.
func sizesIn(steps []trace.Step) []uint16 {
	var sizes []uint16
	for _, s := range steps {
		if s.Rule.Target.Verb == rules.ClampMSS {
			sizes = append(sizes, s.Rule.Target.Size)
		}
	}
	return sizes
}
