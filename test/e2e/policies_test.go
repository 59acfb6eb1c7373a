package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestPoliciesOfOtherKinds has policies beside the plain three of a tunnel: chosen by a mark, for one direction, for any
// host that has IPsec, and without a reqid. Each case is a control first, without xfrmfw.
func TestPoliciesOfOtherKinds(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	wan, moon, mallory := n.Sun.Outer(f), n.Moon.Outer(f), n.Mallory.Outer(f)
	web := addr("198.51.100.66")
	n.Mallory.IP(t, fmt.Sprintf("addr add %s dev lo", web))
	n.Sun.IP(t, fmt.Sprintf("route add 198.51.100.0/24 via %s", mallory))
	inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
	tunnel := func(dir string, src, dst netip.Prefix, mark lab.Mark) lab.Policy {
		p := lab.Policy{Dir: dir, Src: src, Dst: dst, Priority: 2000, Mark: mark, Templates: []lab.Template{{Src: moon, Dst: wan, Reqid: 41}}}
		if dir == "out" {
			p.Templates = []lab.Template{{Src: wan, Dst: moon, Reqid: 41}}
		}
		return p
	}
	all := everything(f)
	both := func(t *testing.T) {
		t.Helper()
		n.Bob.MustPing(t, web, 2)
		n.Mallory.MustPing(t, wan, 2, "-I", web.String())
	}
	for _, test := range []struct {
		name     string
		policies []lab.Policy
		before   func(t *testing.T)
		passes   func(t *testing.T)
		after    func(t *testing.T)
	}{
		{name: "chosen by a mark", passes: both, policies: []lab.Policy{
			tunnel("in", all, all, lab.Mark{Value: 7, Mask: 0xff}), tunnel("fwd", all, all, lab.Mark{Value: 7, Mask: 0xff}),
			tunnel("out", all, all, lab.Mark{Value: 8, Mask: 0xff}),
		}},
		{name: "bypass by a mark", policies: []lab.Policy{
			tunnel("in", prefix("198.51.100.0/24"), n.Sun.InnerNet(f), lab.Mark{}), tunnel("fwd", prefix("198.51.100.0/24"), n.Sun.InnerNet(f), lab.Mark{}),
			tunnel("out", n.Sun.InnerNet(f), prefix("198.51.100.0/24"), lab.Mark{}),
			{Dir: "in", Src: all, Dst: all, Priority: 1, Mark: lab.Mark{Value: 9, Mask: 0xff}},
			{Dir: "fwd", Src: all, Dst: all, Priority: 1, Mark: lab.Mark{Value: 9, Mask: 0xff}},
			{Dir: "out", Src: all, Dst: all, Priority: 1, Mark: lab.Mark{Value: 9, Mask: 0xff}},
		}, before: func(t *testing.T) {
			n.Sun.Iptables(t, f, "-t", "mangle", "-A", "PREROUTING", "-p", "icmp", "-j", "MARK", "--set-xmark", "9/0xff")
		}, passes: func(t *testing.T) { t.Helper(); n.Bob.MustPing(t, web, 2) }, after: func(t *testing.T) {
			n.Sun.Iptables(t, f, "-t", "mangle", "-D", "PREROUTING", "-p", "icmp", "-j", "MARK", "--set-xmark", "9/0xff")
			n.Bob.MustNotPing(t, web, 2) // the tunnel is down, and the mark is gone
		}},
		{name: "bypass for dir in alone", policies: []lab.Policy{
			tunnel("in", n.Moon.InnerNet(f), n.Sun.InnerNet(f), lab.Mark{}), tunnel("fwd", n.Moon.InnerNet(f), n.Sun.InnerNet(f), lab.Mark{}),
			tunnel("out", n.Sun.InnerNet(f), n.Moon.InnerNet(f), lab.Mark{}),
			{Dir: "in", Src: prefix("10.1.0.0/25"), Dst: n.Sun.InnerNet(f), Priority: 1},
		}, before: func(t *testing.T) { forged(t, n, n.Alice.Inner(f), inbox, "control, the kernel alone") }, after: func(t *testing.T) {
			if got := inbox.Count("control, the kernel alone"); got != 0 {
				t.Errorf("the kernel let %d forged packets pass", got)
			}
			n.Sun.FlushXFRM(t)
			before := drops(t, n.Sun)
			forged(t, n, n.Alice.Inner(f), inbox, "flushed")
			dropped(t, n.Sun, before, "spoof", perAttack)
			n.Sun.MustXfrmfw(t, "apply")
			before = drops(t, n.Sun)
			forged(t, n, n.Alice.Inner(f), inbox, "remembered")
			dropped(t, n.Sun, before, "spoof", perAttack)
			if got := inbox.Count("flushed") + inbox.Count("remembered"); got != 0 {
				t.Errorf("%d forged packets passed through the bypass for the host", got)
			}
		}},
		{name: "opportunistic", policies: []lab.Policy{
			{Dir: "out", Src: host(wan), Dst: all, Priority: 3850497, Templates: []lab.Template{{Mode: lab.Transport}}},
			{Dir: "out", Src: host(wan), Dst: host(web), Priority: 3850240},
		}, passes: func(t *testing.T) {
			t.Helper()
			n.Mallory.MustPing(t, wan, 2, "-I", web.String())
			n.Sun.MustPing(t, web, 2)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			n.Sun.AddPolicies(t, test.policies...)
			if test.before != nil {
				test.before(t)
			}
			for _, apply := range []bool{false, true} {
				if apply {
					n.Sun.MustXfrmfw(t, "apply")
				}
				if test.passes != nil {
					test.passes(t)
				}
			}
			if test.after != nil {
				test.after(t)
			}
			n.Sun.FlushXFRM(t)
			n.Sun.Xfrmfw(t, "forget", "0.0.0.0/0") // the guards that this case leaves in memory
			n.Sun.MustXfrmfw(t, "clear")
		})
	}
}

// TestTransportWithoutReqid is two hosts with manual keys, as setkey makes them, between
// firewalls that let in only packets that xfrmfw accepts.
func TestTransportWithoutReqid(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	wan, moon := n.Sun.Outer(f), n.Moon.Outer(f)
	for _, g := range n.Gateways() {
		us, peer := g.Outer(f), n.Peer(g).Outer(f)
		g.AddSAs(t, lab.SA{Src: moon, Dst: wan, SPI: 0x201, Mode: lab.Transport}, lab.SA{Src: wan, Dst: moon, SPI: 0x301, Mode: lab.Transport})
		template := []lab.Template{{Mode: lab.Transport}}
		g.AddPolicies(t, lab.Policy{Dir: "out", Src: host(us), Dst: host(peer), Templates: template}, lab.Policy{Dir: "in", Src: host(peer), Dst: host(us), Templates: template})
	}
	n.Moon.MustPing(t, wan, 2)
	closed(t, n.Sun)
	n.Moon.MustNotPing(t, wan, 2)
	n.Sun.MustXfrmfw(t, "apply")
	n.Moon.MustPing(t, wan, 2)
	untouched(t, n.Sun)
}
