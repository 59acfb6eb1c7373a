package prove

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// kernelWorld is a gateway in a kernel, and a host at the other ends of its links.
type kernelWorld struct {
	gateway, outside *lab.Host
	snapshot         xfrm.Snapshot
	in               firewall.Input
	facts            firewall.Facts
	// inbound are the SAs that packets can come out of, by reqid.
	inbound map[uint32]lab.SA
}

var kernelLinks = []string{"wan0", "lan0", "dmz0"}

// newKernelWorld makes a gateway in the kernel with random tunnels, and reads it back as
// the program does. Without ESP in the kernel the tunnels are down.
func newKernelWorld(t *testing.T, r *rand.Rand, esp bool) *kernelWorld {
	t.Helper()
	hosts := lab.NewHosts(t, "gateway", "outside")
	w := &kernelWorld{gateway: hosts[0], outside: hosts[1], inbound: make(map[uint32]lab.SA)}
	w.links(t)
	pairs := make(map[string]bool)
	for i := range 1 + r.IntN(4) {
		w.tunnel(t, r, i, esp && r.IntN(5) > 0, pairs)
	}
	var err error
	if w.snapshot, err = xfrm.ReadJSON(strings.NewReader(w.gateway.MustXfrmfw(t, "snapshot"))); err != nil {
		t.Fatal(err)
	}
	w.in = firewall.Input{Set: xfrm.Tunnels(w.snapshot), Host: w.snapshot.Host, Config: kernelConfig(r)}
	w.in.Guards = w.in.Config.Guard.Pairs
	w.facts = decide.Facts(w.in)
	return w
}

func (w *kernelWorld) links(t *testing.T) {
	t.Helper()
	// The policy check of the kernel drops packets before the rules see them. The lookup of
	// policies for packets that leave stays.
	all := []string{
		"net/ipv4/conf/all/disable_policy=1", "net/ipv4/conf/default/disable_policy=1",
		"net/ipv6/conf/all/disable_policy=1", "net/ipv6/conf/default/disable_policy=1",
		"net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0",
		"net/ipv4/conf/all/send_redirects=0", "net/ipv4/conf/default/send_redirects=0",
		"net/ipv6/conf/all/accept_dad=0", "net/ipv6/conf/default/accept_dad=0",
		"net/ipv6/conf/all/accept_ra=0", "net/ipv6/conf/default/accept_ra=0",
		"net/ipv6/conf/all/router_solicitations=0", "net/ipv6/conf/default/router_solicitations=0",
		"net/ipv4/conf/all/accept_redirects=0", "net/ipv6/conf/all/accept_redirects=0",
		"net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1",
	}
	w.gateway.Sysctl(t, all...)
	w.outside.Sysctl(t, "net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1")
	var lines, outside []string
	for _, link := range kernelLinks {
		lines = append(lines, fmt.Sprintf("link add %s type veth peer name %s netns %s", link, link, w.outside.Netns()),
			fmt.Sprintf("link set %s addrgenmode none", link), fmt.Sprintf("link set %s arp off multicast off", link), fmt.Sprintf("link set %s up", link))
		outside = append(outside, fmt.Sprintf("link set %s arp off multicast off", link), fmt.Sprintf("link set %s up", link))
	}
	lines = append(lines,
		"addr add 192.0.2.2/24 dev wan0", "addr add 2001:db8:ffff::2/64 dev wan0 nodad",
		"addr add 10.2.0.1/24 dev lan0", "addr add fd00:2::1/64 dev lan0 nodad",
		"addr add 10.3.0.1/24 dev dmz0", "addr add fd00:3::1/64 dev dmz0 nodad",
	)
	w.gateway.IP(t, lines...)
	w.outside.IP(t, outside...)
	w.gateway.IP(t, "route add default via 192.0.2.254", "route add default via 2001:db8:ffff::fe")
	for _, f := range lab.Families {
		// The kernel's own packets, such as replies, are not the test's. Those of the test have
		// a mark until here.
		w.gateway.Iptables(t, f, "-t", "raw", "-A", "OUTPUT", "-m", "mark", "!", "--mark", fmt.Sprint(ownMark), "-j", "DROP")
		w.gateway.Iptables(t, f, "-t", "raw", "-A", "OUTPUT", "-j", "MARK", "--set-mark", "0")
		// A rule of nat has the kernel rewrite the packets of flows with NAT, and one that asks
		// conntrack has it know flows.
		w.gateway.Iptables(t, f, "-t", "nat", "-A", "PREROUTING", "-m", "conntrack", "--ctstate", "INVALID", "-j", "RETURN")
	}
}

// ownMark is the mark of packets that the test sends from the gateway itself.
const ownMark = 1

var (
	kernelLocals = map[lab.Family][]string{
		lab.IPv4: {"10.2.0.0/24", "10.2.0.128/25", "10.3.0.0/24", "10.2.0.1/32", "10.2.0.0/15", "0.0.0.0/0"},
		lab.IPv6: {"fd00:2::/64", "fd00:2::8000/113", "fd00:3::/64", "fd00:2::1/128", "fd00:2::/31", "::/0"},
	}
	kernelRemotes = map[lab.Family][]string{
		lab.IPv4: {"10.1.0.0/24", "10.1.0.64/26", "10.1.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "198.51.100.7/32"},
		lab.IPv6: {"fd00:1::/64", "fd00:1::4000/114", "fd00:1::/48", "fd01::/32", "fd00::/16", "2001:db8:7::7/128"},
	}
	kernelUppers = []string{"", "", "", "proto tcp", "proto udp dport 53", "proto tcp sport 443"}
)

// tunnel adds the policies of a tunnel and, if it is up, its SAs.
func (w *kernelWorld) tunnel(t *testing.T, r *rand.Rand, i int, up bool, pairs map[string]bool) {
	t.Helper()
	reqid := uint32(11 + i)
	peer, self := netip.AddrFrom4([4]byte{203, 0, 113, byte(11 + i)}), netip.MustParseAddr("192.0.2.2")
	if r.IntN(4) == 0 {
		peer, self = netip.MustParseAddr(fmt.Sprintf("2001:db8:5::%d", 11+i)), netip.MustParseAddr("2001:db8:ffff::2")
	}
	in := []lab.Template{{Src: peer, Dst: self, Reqid: reqid}}
	out := []lab.Template{{Src: self, Dst: peer, Reqid: reqid}}
	var policies []lab.Policy
	for range 1 + r.IntN(2) {
		f := lab.Families[r.IntN(2)]
		local, remote := kernelLocals[f][r.IntN(6)], kernelRemotes[f][r.IntN(6)]
		upper := kernelUppers[r.IntN(len(kernelUppers))]
		l, p := netip.MustParsePrefix(local), netip.MustParsePrefix(remote)
		priority := uint32(1000 + 100*r.IntN(5) + i)
		both := []lab.Policy{
			{Dir: "out", Src: l, Dst: p, Upper: upper, Priority: priority, Templates: out},
			{Dir: "in", Src: p, Dst: l, Upper: mirrored(upper), Priority: priority, Templates: in},
			{Dir: "fwd", Src: p, Dst: l, Upper: mirrored(upper), Priority: priority, Templates: in},
		}
		policies = append(policies, both...)
		if r.IntN(3) > 0 || p.Bits() > 100 || p.Bits() == 32 {
			continue
		}
		// An exception within the pair: a policy without a template, or one that blocks.
		hole := netip.PrefixFrom(p.Addr(), p.Bits()+2)
		for _, b := range both {
			b.Priority, b.Templates, b.Block = 500, nil, r.IntN(3) == 0
			if b.Dir == "out" {
				b.Dst = hole
			} else {
				b.Src = hole
			}
			policies = append(policies, b)
		}
	}
	if up {
		inbound := lab.SA{Src: peer, Dst: self, SPI: 0x1000 + reqid, Reqid: reqid}
		w.gateway.AddSAs(t, inbound, lab.SA{Src: self, Dst: peer, SPI: 0x2000 + reqid, Reqid: reqid})
		w.inbound[reqid] = inbound
	}
	for _, p := range policies {
		if key := fmt.Sprint(p.Dir, p.Src, p.Dst, p.Upper); !pairs[key] { // the kernel has one of each
			pairs[key] = true
			w.gateway.AddPolicies(t, p)
		}
	}
}

// mirrored is the selector of the answers.
func mirrored(upper string) string {
	return strings.NewReplacer("sport", "dport", "dport", "sport").Replace(upper)
}

// kernelConfig makes up a configuration.
func kernelConfig(r *rand.Rand) firewall.Config {
	p := netip.MustParsePrefix
	c := firewall.Config{Marks: firewall.DefaultMarks(), Enforce: r.IntN(4) == 0, MarkOnly: r.IntN(8) == 0}
	if r.IntN(2) == 0 {
		c.WAN = []string{"wan0"}
		if r.IntN(2) == 0 {
			c.Lockdown = &firewall.Lockdown{Services: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}, {Proto: xfrm.ICMP}}}
		}
	}
	if r.IntN(2) == 0 {
		c.Guard.Pairs = []guard.Guard{
			{Local: p("10.2.0.0/24"), Remote: p("172.31.0.0/16"), Source: guard.FromConfig},
			{Local: p("0.0.0.0/0"), Remote: p("10.9.0.0/16"), Source: guard.FromConfig},
			{Local: p("fd00:2::/64"), Remote: p("fd09::/32"), Source: guard.FromConfig},
		}
	}
	if r.IntN(4) == 0 {
		c.Guard.Asymmetric = []string{"dmz0"}
	}
	for i := range 4 {
		tc := firewall.TunnelConfig{Match: firewall.Match{Reqid: uint32(11 + i)}}
		switch r.IntN(5) {
		case 0:
			tc.In = []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Ports{Lo: 80, Hi: 99}}, {Proto: xfrm.ICMP}}
		case 1:
			tc.Out = []firewall.Service{{Proto: xfrm.UDP}, {Proto: xfrm.TCP, Ports: firewall.Port(443)}}
		case 2:
			tc.In, tc.Out = []firewall.Service{}, []firewall.Service{{Proto: xfrm.ICMP}}
		case 3:
			tc.Remote = []netip.Prefix{p("10.1.0.0/17"), p("fd00:1::/64")}
		default:
			continue
		}
		c.Tunnels = append(c.Tunnels, tc)
	}
	return c
}
