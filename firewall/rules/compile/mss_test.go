package compile

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
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
