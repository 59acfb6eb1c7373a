package e2e

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestCrossingAmongMany has a peer send through its tunnel with an address that is not its own, on a gateway with more
// tunnels than one chain holds. The kernel compares outer addresses in the inner packet's family; the rules still lead
// such packets to the tunnel's reqid, and none is looked for among all of them.
func TestCrossingAmongMany(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	for _, test := range []struct {
		name   string
		tunnel lab.IPsec
	}{
		{"v4", lab.IPsec{}},
		{"v6 in v4", lab.IPsec{Inner: lab.IPv6, Outer: lab.IPv4}},
		{"v4 in v6", lab.IPsec{Inner: lab.IPv4, Outer: lab.IPv6}},
	} {
		t.Run(test.name, func(t *testing.T) {
			const packets = 5
			n := lab.NewNetwork(t)
			f, stranger := lab.IPv4, netip.MustParseAddr("203.0.113.77")
			if test.tunnel.Inner == lab.IPv6 {
				f, stranger = lab.IPv6, netip.MustParseAddr("2001:db8:77::77")
			}
			n.Up(t, test.tunnel)
			for _, p := range n.Policies(n.Moon, test.tunnel) {
				if p.Dir == "out" {
					p.Src = netip.PrefixFrom(stranger, stranger.BitLen())
					n.Moon.AddPolicies(t, p)
					break
				}
			}
			n.Moon.IP(t, "addr add "+stranger.String()+" dev lo")
			var others []lab.Policy
			for i := range 100 {
				peer, outer := netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}), lab.IPv4
				if i%4 == 0 {
					peer, outer = netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: byte(i)}), lab.IPv6
				}
				others = append(others, lab.Policy{
					Dir: "in", Src: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(i), 0}), 24), Dst: n.Sun.InnerNet(lab.IPv4),
					Templates: []lab.Template{{Src: peer, Dst: n.Sun.Outer(outer), Reqid: uint32(5000 + i)}},
				})
			}
			n.Sun.AddPolicies(t, others...)
			n.Sun.MustXfrmfw(t, "apply")

			before := drops(t, n.Sun)
			for i := range packets {
				from, to := netip.AddrPortFrom(stranger, 1000+uint16(i)), netip.AddrPortFrom(n.Bob.Inner(f), 7000)
				if err := n.Moon.SendOwn(lab.UDPPacket(from, to, "crossing")); err != nil {
					t.Fatalf("send through the tunnel: %v", err)
				}
			}
			dropped(t, n.Sun, before, "crossed", packets)
			led, missed := 0, 0
			for _, rule := range strings.Split(n.Sun.Iptables(t, f, "-t", "mangle", "-nvxL", "XFRMFW-KNOWN"), "\n") {
				fields := strings.Fields(rule)
				if len(fields) < 3 || !strings.HasPrefix(fields[2], "XFRMFW-") {
					continue
				}
				count, err := strconv.Atoi(fields[0])
				if err != nil {
					t.Fatalf("%q has no count", rule)
				}
				switch fields[2] {
				case "XFRMFW-FROM":
					led += count
				case "XFRMFW-CROSSED":
				default:
					missed += count
				}
			}
			if led != packets || missed != 0 {
				t.Errorf("%d packets were led by their outer source, and %d times all tunnels of a chain were tried, want %d and none", led, missed, packets)
			}
		})
	}
}
