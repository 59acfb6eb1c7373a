package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// forged are datagrams in clear from mallory, with another's source.
func forged(t *testing.T, n *lab.Network, src netip.Addr, to *lab.Inbox, payload string) {
	t.Helper()
	n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(src, 7001), to.Addr, payload).Times(perAttack)...)
}

// dropped waits until a host has dropped so many packets as some case since before.
func dropped(t *testing.T, h *lab.Host, before map[string]int, drop string, want int) {
	t.Helper()
	lab.Eventually(t, lab.Patience, func() error {
		if got := drops(t, h)[drop] - before[drop]; got != want {
			return fmt.Errorf("%d packets were counted as %s, want %d", got, drop, want)
		}
		return nil
	})
}

// TestOneArmedGateway has the protected network on the interface that leads to the peer: packets come in and go out by
// the same one, in clear on one side of the gateway and inside ESP on the other.
func TestOneArmedGateway(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	for i, f := range lab.Families {
		armed := map[lab.Family]netip.Prefix{lab.IPv4: prefix("10.2.5.0/24"), lab.IPv6: prefix("fd00:25::/64")}[f]
		gateway, inside := armed.Addr().Next(), armed.Addr().Next().Next()
		// mallory is the host behind the gateway this time.
		n.Sun.IP(t, fmt.Sprintf("addr add %s dev wan0 %s", netip.PrefixFrom(gateway, armed.Bits()), nodad(f)))
		n.Mallory.IP(t, fmt.Sprintf("addr add %s dev wan0 %s", netip.PrefixFrom(inside, armed.Bits()), nodad(f)),
			fmt.Sprintf("route replace %s via %s src %s", n.Moon.InnerNet(f), gateway, inside))
		n.Moon.IP(t, fmt.Sprintf("route add %s via %s", armed, n.Sun.Outer(f)))
		n.Up(t, lab.IPsec{Inner: f, Reqid: uint32(11 + i), SunNets: []netip.Prefix{armed}})
	}
	closed(t, n.Gateways()...)
	applied(t, n)
	for _, f := range lab.Families {
		n.Mallory.MustPing(t, n.Alice.Inner(f), 3)
	}
	untouched(t, n.Gateways()...)
	for _, g := range n.Gateways() {
		g.FlushXFRM(t)
		for _, f := range lab.Families {
			g.Iptables(t, f, "-P", "FORWARD", "ACCEPT")
		}
	}
	applied(t, n)
	wire := n.Wire(t)
	for _, f := range lab.Families {
		n.Mallory.MustNotPing(t, n.Alice.Inner(f), 1)
		if got := wire.Count(t, func(frame lab.Frame) bool { return frame.Link == "moon0" && frame.Dst == n.Alice.Inner(f) }); got != 0 {
			t.Errorf("%v: %d packets in clear on their way to moon", f, got)
		}
	}
}

func nodad(f lab.Family) string {
	if f == lab.IPv6 {
		return "nodad"
	}
	return ""
}

// TestHubAndSpoke forwards from one tunnel into another: the local selector of each is the remote of the other. Neither
// a stranger nor the other spoke may speak for a spoke, in any state.
func TestHubAndSpoke(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	spoke := map[lab.Family]netip.Addr{lab.IPv4: addr("10.3.0.1"), lab.IPv6: addr("fd00:3::1")}
	inboxes := map[lab.Family]*lab.Inbox{}
	for i, f := range lab.Families {
		far, wan, mallory := netip.PrefixFrom(spoke[f], map[lab.Family]int{lab.IPv4: 24, lab.IPv6: 64}[f]).Masked(), n.Sun.Outer(f), n.Mallory.Outer(f)
		inboxes[f] = n.Alice.ListenUDP(t, netip.AddrPortFrom(n.Alice.Inner(f), 7000))
		n.Mallory.IP(t, fmt.Sprintf("addr add %s dev lo", host(spoke[f])), fmt.Sprintf("route replace %s via %s src %s", n.Moon.InnerNet(f), wan, spoke[f]))
		n.Sun.IP(t, fmt.Sprintf("route add %s via %s", far, mallory))
		n.Moon.IP(t, fmt.Sprintf("route add %s via %s", far, wan))
		n.Up(t, lab.IPsec{Inner: f, Reqid: uint32(11 + i), SunNets: []netip.Prefix{far}})
		// mallory's own tunnel with the hub.
		reqid := uint32(20 + f)
		toSun, toMallory := lab.SA{Src: mallory, Dst: wan, SPI: 0x1000 * reqid, Reqid: reqid}, lab.SA{Src: wan, Dst: mallory, SPI: 0x1000*reqid + 1, Reqid: reqid}
		in, out := []lab.Template{{Src: mallory, Dst: wan, Reqid: reqid}}, []lab.Template{{Src: wan, Dst: mallory, Reqid: reqid}}
		net := n.Moon.InnerNet(f)
		for _, h := range []*lab.Host{n.Mallory, n.Sun} {
			h.AddSAs(t, toSun, toMallory)
		}
		n.Mallory.AddPolicies(t, lab.Policy{Dir: "out", Src: far, Dst: net, Templates: in}, lab.Policy{Dir: "in", Src: net, Dst: far, Templates: out})
		n.Sun.AddPolicies(t, lab.Policy{Dir: "in", Src: far, Dst: net, Templates: in}, lab.Policy{Dir: "fwd", Src: far, Dst: net, Templates: in},
			lab.Policy{Dir: "out", Src: net, Dst: far, Templates: out})
	}
	closed(t, n.Gateways()...)
	applied(t, n)
	for _, f := range lab.Families {
		n.Mallory.MustPing(t, n.Alice.Inner(f), 3, "-I", spoke[f].String())
	}
	untouched(t, n.Gateways()...)
	// The hub's tunnels go, and moon is none that protects itself.
	for _, h := range []*lab.Host{n.Sun, n.Moon, n.Mallory} {
		h.FlushXFRM(t)
	}
	n.Moon.MustXfrmfw(t, "clear")
	for _, f := range lab.Families {
		n.Moon.Iptables(t, f, "-P", "FORWARD", "ACCEPT")
		n.Sun.Iptables(t, f, "-P", "FORWARD", "ACCEPT")
	}
	for _, again := range []bool{false, true} {
		if again {
			n.Sun.MustXfrmfw(t, "apply")
		}
		before := drops(t, n.Sun)
		for _, f := range lab.Families {
			forged(t, n, spoke[f], inboxes[f], fmt.Sprint("again=", again))
		}
		dropped(t, n.Sun, before, "spoof", 2*perAttack)
		for _, f := range lab.Families {
			if got := len(inboxes[f].Datagrams()); got != 0 {
				t.Errorf("again=%v, %v: %d packets in clear passed the hub", again, f, got)
			}
		}
	}
}

// TestDevicesWhileDown takes route-based tunnels down step by step: no state; no policy; no device. Cleartext comes in
// for the tunnel in none of them, and leaves in its place in none.
func TestDevicesWhileDown(t *testing.T) {
	for _, carrier := range []lab.Carrier{lab.XFRMInterface, lab.VTI, lab.GRE} {
		t.Run(string(carrier), func(t *testing.T) {
			in := lab.Oldest
			if carrier == lab.XFRMInterface {
				in = lab.Newest
			}
			lab.RunIn(t, in)
			n := lab.NewNetwork(t)
			c := lab.IPsec{Carrier: carrier}
			const f = lab.IPv4
			n.Up(t, c)
			applied(t, n)
			n.Alice.MustPing(t, n.Bob.Inner(f), 2)
			untouched(t, n.Sun)
			inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
			wire := n.Wire(t)
			device := map[lab.Carrier]string{lab.XFRMInterface: "ipsec0", lab.VTI: "vti0", lab.GRE: "gre1"}[carrier]
			for _, state := range []string{"no states", "no policies", "applied", "no device"} {
				switch state {
				case "no states":
					n.Sun.DeleteSAs(t, n.SAs(n.Sun, c)...)
				case "no policies":
					n.Sun.FlushXFRM(t)
				case "applied":
					n.Sun.MustXfrmfw(t, "apply")
				case "no device":
					n.Sun.IP(t, "link del "+device, fmt.Sprintf("route replace %s via %s", n.Moon.InnerNet(f), n.Moon.Outer(f)))
					n.Sun.MustXfrmfw(t, "apply")
				}
				before := drops(t, n.Sun)
				forged(t, n, n.Alice.Inner(f), inbox, state)
				dropped(t, n.Sun, before, "spoof", perAttack)
				if got := inbox.Count(state); got != 0 {
					t.Errorf("%s: %d forged packets arrived", state, got)
				}
				n.Bob.MustNotPing(t, n.Alice.Inner(f), 2)
				if got := wire.Count(t, func(frame lab.Frame) bool {
					inner := frame.Src == n.Bob.Inner(f) && frame.Dst == n.Alice.Inner(f)
					return frame.Link == "sun0" && (inner || frame.Proto == 47)
				}); got != 0 {
					t.Errorf("%s: %d packets left in clear: %v", state, got, wire.Frames(t))
				}
			}
		})
	}
}
