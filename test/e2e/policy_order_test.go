package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestExceptionsAsTheKernel has policies that let a part of a tunnel's traffic pass in clear, or seem to: what the kernel
// alone lets pass is let pass, and what it holds is held when the policies are gone.
func TestExceptionsAsTheKernel(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	local, remote, wide := n.Sun.InnerNet(f), n.Alice.InnerNet(f), prefix("10.1.0.0/16")
	alice, bob := n.Alice.ListenUDP(t, netip.AddrPortFrom(n.Alice.Inner(f), 7000)), n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
	wire := n.Wire(t)
	port := uint16(7100)
	leave := func(payload string) int {
		port++
		for range perAttack {
			_ = n.Bob.Do(func() error { return sendOne(netip.AddrPortFrom(n.Bob.Inner(f), port), alice.Addr, payload) })
		}
		n.Bob.MustPing(t, n.Mallory.Outer(f), 1)
		return wire.Count(t, func(frame lab.Frame) bool {
			return frame.Link == "sun0" && strings.Contains(string(frame.Payload), payload)
		})
	}
	arrive := func(payload string) int {
		port++
		n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(f), port), bob.Addr, payload).Times(perAttack)...)
		n.Mallory.MustPing(t, n.Bob.Inner(f), 1)
		return bob.Count(payload)
	}
	bypass := func() (list []lab.Policy) {
		for _, p := range policiesFor(n, local, remote) {
			p.Templates = nil
			list = append(list, p)
		}
		return list
	}
	block := func() (list []lab.Policy) {
		for _, p := range policiesFor(n, local, remote) {
			p.Templates, p.Block, p.Priority = nil, true, 1
			list = append(list, p)
		}
		return list
	}
	optional := func(remote netip.Prefix, reqid uint32, dirs ...string) (list []lab.Policy) {
		for _, p := range policiesFor(n, local, remote) {
			for _, d := range dirs {
				if p.Dir == d {
					p.Templates[0].Optional = true
				}
			}
			p.Templates[0].Reqid = reqid
			list = append(list, p)
		}
		return list
	}
	for _, test := range []struct {
		name     string
		policies []lab.Policy
		sysctl   string
		// out and in are how many packets pass in clear while the policies stand, without xfrmfw and with it, and when
		// they are gone.
		out, outWith, outGone, in, inWith, inGone int
	}{
		{"a wide tunnel older than a narrow bypass", append(policiesFor(n, local, wide), bypass()...), "", 0, 0, 0, 0, 0, 0},
		{"a narrow bypass older than a wide tunnel", append(bypass(), policiesFor(n, local, wide)...), "",
			perAttack, perAttack, perAttack, perAttack, perAttack, perAttack},
		{"a pair that is optional inbound beside one that is required", append(optional(remote, 41, "in", "fwd"), policiesFor(n, local, prefix("10.4.0.0/24"))...), "",
			0, 0, 0, perAttack, perAttack, perAttack},
		{"a block in front of a tunnel, which no interface enforces", append(block(), policiesFor(n, local, wide)...), "net/ipv4/conf/wan0/disable_policy=1",
			0, 0, 0, perAttack, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.sysctl != "" {
				n.Sun.Sysctl(t, test.sysctl)
			}
			n.Sun.AddPolicies(t, test.policies...)
			check := func(state string, out, in int) {
				t.Helper()
				if got := leave(fmt.Sprintf("%s, %s, out", test.name, state)); got != out {
					t.Errorf("%s: %d left in clear, want %d", state, got, out)
				}
				if got := arrive(fmt.Sprintf("%s, %s, in", test.name, state)); got != in {
					t.Errorf("%s: %d in clear arrived, want %d", state, got, in)
				}
			}
			check("control", test.out, test.in)
			n.Sun.MustXfrmfw(t, "apply")
			check("with xfrmfw", test.outWith, test.inWith)
			n.Sun.FlushXFRM(t)
			check("flushed", test.outGone, test.inGone)
			n.Sun.MustXfrmfw(t, "apply")
			check("remembered", test.outGone, test.inGone)
			for _, p := range []string{wide.String(), remote.String(), "10.4.0.0/24"} {
				n.Sun.Xfrmfw(t, "forget", p) // some cases leave no guard of it
			}
			n.Sun.MustXfrmfw(t, "clear")
		})
	}
}

// TestPolicyForOutAlone: a container overlay's carriers have a policy for dir out by a mark, with one reqid for all hosts.
// Carriers of the peer are let in, and plain packets of the same kind, to and from the same peer, are left as they are.
func TestPolicyForOutAlone(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	mark := lab.Mark{Value: 0xd0c4e3, Mask: 0xffffff}
	for _, g := range n.Gateways() {
		us, peer := g.Outer(f), n.Peer(g).Outer(f)
		g.AddSAs(t, lab.SA{Src: n.Moon.Outer(f), Dst: n.Sun.Outer(f), SPI: 0x201, Mode: lab.Transport, Reqid: 0x3b9}, lab.SA{Src: n.Sun.Outer(f), Dst: n.Moon.Outer(f), SPI: 0x301, Mode: lab.Transport, Reqid: 0x3b9})
		g.AddPolicies(t, lab.Policy{Dir: "out", Src: host(us), Dst: host(peer), Upper: "proto udp dport 4789", Mark: mark,
			Templates: []lab.Template{{Src: us, Dst: peer, Mode: lab.Transport, Reqid: 0x3b9}}})
		g.Iptables(t, f, "-t", "mangle", "-A", "OUTPUT", "-p", "udp", "--dport", "4789", "--sport", "5000:5999", "-j", "MARK", "--set-xmark", "0xd0c4e3/0xffffff")
	}
	wire := n.Wire(t)
	vxlan := n.Sun.ListenUDP(t, netip.AddrPortFrom(n.Sun.Outer(f), 4789))
	both := func(state string) {
		t.Helper()
		before := wire.Count(t, lab.IsESP)
		n.Moon.SendUDP(t, netip.AddrPortFrom(n.Moon.Outer(f), 5000), vxlan.Addr, state+" in ESP", perAttack)
		n.Moon.SendUDP(t, netip.AddrPortFrom(n.Moon.Outer(f), 6000), vxlan.Addr, state+" plain", perAttack)
		_ = n.Sun.Do(func() error {
			return sendOne(netip.AddrPortFrom(n.Sun.Outer(f), 6001), netip.AddrPortFrom(n.Moon.Outer(f), 4789), state+" out")
		})
		lab.Eventually(t, lab.Patience, func() error {
			in, plain, esp := vxlan.Count(state+" in ESP"), vxlan.Count(state+" plain"), wire.Count(t, lab.IsESP)-before
			out := wire.Count(t, func(frame lab.Frame) bool {
				return frame.Link == "sun0" && strings.Contains(string(frame.Payload), state+" out")
			})
			if in != perAttack || plain != perAttack || esp < perAttack || out != 1 {
				return fmt.Errorf("%s: %d arrived in ESP and %d plain, %d packets of ESP, %d plain left", state, in, plain, esp, out)
			}
			return nil
		})
	}
	both("control")
	n.Sun.MustXfrmfw(t, "apply")
	both("with xfrmfw")
	untouched(t, n.Sun)
}
