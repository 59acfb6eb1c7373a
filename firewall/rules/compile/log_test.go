package compile

import (
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// Every drop is preceded by a rule that writes about it at a bounded rate and
// names the case, and the tunnel where the rule is its own.
func TestDropsAreLogged(t *testing.T) {
	long := "the-office-in-a-very-long-street"
	config := firewall.Config{
		WAN: []string{"eth0"}, Lockdown: &firewall.Lockdown{}, Enforce: true,
		Log: firewall.LogConfig{Kernel: true, PerSecond: 5},
		Tunnels: []firewall.TunnelConfig{
			{Match: firewall.Match{Reqid: 1}, Name: long, In: []firewall.Service{{Proto: xfrm.ICMP}}, Out: []firewall.Service{{Proto: xfrm.ICMP}}},
			{Match: firewall.Match{Reqid: 2}, In: []firewall.Service{{Proto: xfrm.ICMP}}, Remote: []netip.Prefix{netip.MustParsePrefix("10.5.0.0/25")}},
		},
	}
	second := sample.Site{Reqid: 2, Local: sunWAN, Remote: "198.51.100.1", Pairs: [][2]string{{sunLAN, "10.5.0.0/24"}}}
	s := snapshotOf(sunHost(), sunSite(), second)
	var id string
	for _, group := range []uint16{0, 5} {
		if group != 0 {
			config.Log = firewall.LogConfig{Group: group, PerSecond: 5}
		}
		w := compileWorld(t, s, config)
		for _, tunnel := range xfrm.Tunnels(s).Tunnels {
			if tunnel.Reqid == 2 {
				id = tunnel.ID
			}
		}
		packet := func(reqid uint32, src string, mark bool) trace.Packet {
			p := from(reqid, src, "10.2.0.10")
			p.DPort = 80
			if mark {
				return tagged(p)
			}
			return p
		}
		misrouted := clear4("10.2.0.66", "10.1.0.10")
		misrouted.FailsRPFilter = true
		leaking := trace.Packet{Src: addr("10.2.0.1"), Dst: addr("10.1.0.10"), Out: "eth0", SrcLocal: true, Proto: xfrm.TCP}
		out, cut := "xfrmfw:out:the-office-in-a-v:", "xfrmfw:in:the-office-in-a-ve:"
		if group != 0 {
			out, cut = "xfrmfw:out:"+long+":", "xfrmfw:in:"+long+":"
		}
		for _, tc := range []struct {
			prefix string
			got    passage
		}{
			{"xfrmfw:spoof:", w.arrive(clear4("10.1.0.10", "10.2.0.10"), nil)},
			{"xfrmfw:crossed:", w.arrive(packet(1, "10.77.0.1", true), nil)},
			{"xfrmfw:unconfirmed:", w.arrive(packet(1, "10.1.0.10", false), nil)},
			{cut, w.arrive(packet(1, "10.1.0.10", true), nil)},
			{"xfrmfw:in:" + id + ":", w.arrive(packet(2, "10.5.0.9", true), nil)},
			{"xfrmfw:inject:", w.arrive(misrouted, nil)},
			{"xfrmfw:leak:", w.send(leaking)},
			{"xfrmfw:lockdown:", w.arrive(clear4("203.0.113.1", "10.2.0.10"), nil)},
		} {
			step, ok := trace.Last(tc.got.steps, rules.PurposeLog)
			if !ok || step.Rule.Target.Prefix != tc.prefix || step.Rule.Limit.PerSecond != 5 {
				t.Errorf("want a rule that logs %s, got %q in %v", tc.prefix, step.Rule.Target.Prefix, tc.got.steps)
			}
			if tc.got.final != rules.Drop {
				t.Errorf("%s: verdict %s", tc.prefix, tc.got.final)
			}
		}
		for prefix, p := range map[string]trace.Packet{
			"xfrmfw:leak:":              {Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP},
			out:                         {Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP, OutBundle: ahead(1)},
			"xfrmfw:remote:" + id + ":": {Src: addr("10.2.0.10"), Dst: addr("10.5.0.200"), In: "eth1", Out: "eth0", Proto: xfrm.TCP, OutBundle: ahead(2)},
		} {
			got := w.forward(p)
			if step, _ := trace.Last(got.steps, rules.PurposeLog); step.Rule.Target.Prefix != prefix || got.final != rules.Reject {
				t.Errorf("want a rule that logs %s, got %q; verdict %s", prefix, step.Rule.Target.Prefix, got.final)
			}
		}
	}
}

func ahead(reqid uint32) []xfrm.Transform {
	return []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid}}
}
