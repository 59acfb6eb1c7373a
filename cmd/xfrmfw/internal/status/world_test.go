package status

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// now is the time of all snapshots here: 2025-03-01 12:00:00 UTC.
const now = 1740830400

// site is a tunnel as an IKE daemon would install it.
type site struct {
	reqid         uint32
	local, remote string
	pairs         [][2]string // local, remote
	port          uint16      // of UDP encapsulation at the peer; 0 is none
	ages          []uint64    // one pair of states each
	proto         xfrm.Proto
	localPort     uint16
}

func snapshotOf(sites ...site) xfrm.Snapshot {
	s := xfrm.Snapshot{Schema: xfrm.SchemaVersion, Time: now, Host: xfrm.Host{
		Links:     []xfrm.Link{{Index: 1, Name: "lo", Up: true}, {Index: 2, Name: "eth0", Up: true}},
		Addresses: []xfrm.Address{{Link: 2, Prefix: netip.MustParsePrefix("198.51.100.1/24")}},
	}}
	for _, x := range sites {
		local, remote := netip.MustParseAddr(x.local), netip.MustParseAddr(x.remote)
		family := xfrm.IPv4
		if local.Is6() {
			family = xfrm.IPv6
		}
		for _, pair := range x.pairs {
			for _, dir := range []xfrm.Dir{xfrm.Out, xfrm.In, xfrm.Fwd} {
				s.Policies = append(s.Policies, x.policy(dir, family, netip.MustParsePrefix(pair[0]), netip.MustParsePrefix(pair[1])))
			}
		}
		for i, age := range x.ages {
			spi := x.reqid<<8 + uint32(i)
			in := xfrm.State{
				Family: family, Src: remote, Dst: local, SPI: 0xc0000000 + spi, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: x.reqid,
				Algs: xfrm.Algs{AEAD: "rfc4106(gcm(aes))"}, AddTime: now - age, Packets: age * 11, Bytes: age * 9001,
			}
			out := in
			out.Src, out.Dst, out.SPI, out.Packets, out.Bytes = local, remote, 0x5e000000+spi, age*7, age*8003
			if x.port != 0 {
				in.Encap = xfrm.Encap{Type: 2, SPort: x.port, DPort: 4500}
				out.Encap = xfrm.Encap{Type: 2, SPort: 4500, DPort: x.port}
			}
			s.States = append(s.States, in, out)
		}
	}
	return s
}

func (x site) policy(dir xfrm.Dir, family xfrm.Family, local, remote netip.Prefix) xfrm.Policy {
	inner := xfrm.IPv4
	if local.Addr().Is6() {
		inner = xfrm.IPv6
	}
	p := xfrm.Policy{
		Selector: xfrm.Selector{Family: inner, Src: remote, Dst: local, Proto: x.proto},
		Dir:      dir, Priority: 375423,
		Templates: []xfrm.Template{{
			Family: family, Src: netip.MustParseAddr(x.remote), Dst: netip.MustParseAddr(x.local),
			Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: x.reqid,
		}},
	}
	if x.localPort != 0 {
		p.Selector.DPort = xfrm.PortMatch{Port: x.localPort, Mask: 0xffff}
	}
	if dir == xfrm.Out {
		p.Selector.Src, p.Selector.Dst = local, remote
		p.Selector.SPort, p.Selector.DPort = p.Selector.DPort, p.Selector.SPort
		p.Templates[0].Src, p.Templates[0].Dst = p.Templates[0].Dst, p.Templates[0].Src
	}
	return p
}

// resultOf stands in for the compiler, whose rules grow with each version: a few
// of each kind are enough here, and the golden files stay as they are.
func resultOf(set xfrm.Set) firewall.Result {
	var r firewall.Result
	marks := firewall.DefaultMarks()
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		accept := firewall.Target{Verb: firewall.Accept}
		tag := firewall.Target{Verb: firewall.Jump, Chain: "XFRMFW-TAG"}
		mark := firewall.Target{Verb: firewall.SetMark, Value: marks.Verified, Mask: marks.Verified}
		in, out := firewall.PolicyMatch{Dir: firewall.PolicyIn}, firewall.PolicyMatch{Dir: firewall.PolicyOut}
		sel := firewall.Chain{Table: firewall.Mangle, Name: "XFRMFW-SEL"}
		related := firewall.Chain{Table: firewall.Mangle, Name: "XFRMFW-RELATED-TO"}
		guard := firewall.Chain{Table: firewall.Mangle, Name: "XFRMFW-SPOOF"}
		drop := firewall.Target{Verb: firewall.Goto, Chain: "XFRMFW-DROP-SPOOF"}
		for _, t := range set.Tunnels {
			policy := firewall.PolicyMatch{Dir: firewall.PolicyIn, Proto: xfrm.ESP, Reqid: t.Reqid, HasReqid: true}
			for _, p := range t.Pairs {
				if p.Family() != family {
					continue
				}
				rule := firewall.Rule{Src: p.Remote, Dst: p.Local, Policy: policy, Target: mark, Tunnel: t.ID, Purpose: firewall.PurposeVerified}
				rule.Mark = firewall.MarkMatch{Value: marks.Tag, Mask: marks.Tag}
				sel.Rules = with(sel.Rules, rule)
				rule.Mark.Not, rule.Purpose = true, firewall.PurposeUnconfirmed
				sel.Rules = with(sel.Rules, rule)
				related.Rules = with(related.Rules,
					firewall.Rule{Dst: p.Local, Policy: policy, Target: mark, Tunnel: t.ID, Purpose: firewall.PurposeRelated})
				guard.Rules = with(guard.Rules, firewall.Rule{
					Src: p.Remote, Dst: p.Local, Target: drop, Tunnel: t.ID, Purpose: firewall.PurposeSpoofGuard,
				})
			}
			if family == xfrm.IPv4 {
				r.Guards = append(r.Guards, firewall.GuardFacts{Guard: firewall.Guard{Local: t.Pairs[0].Local, Remote: t.Pairs[0].Remote, Source: firewall.LiveGuard, Tunnel: t.ID}})
			}
		}
		r.Rulesets = append(r.Rulesets, firewall.Ruleset{Family: family, Chains: []firewall.Chain{
			{Table: firewall.Mangle, Name: "XFRMFW-DROP-SPOOF", Rules: firewall.RulesOf([]firewall.Rule{
				{Target: firewall.Target{Verb: firewall.Drop}, Purpose: firewall.PurposeSpoof},
			}...)},
			{Table: firewall.Mangle, Name: "XFRMFW-IN", Rules: firewall.RulesOf([]firewall.Rule{
				{Proto: xfrm.ESP, Target: tag, Purpose: firewall.PurposeDispatch},
				{Proto: xfrm.UDP, DPorts: firewall.Port(4500), DstType: firewall.Local, Target: tag, Purpose: firewall.PurposeDispatch},
			}...)},
			{Table: firewall.Mangle, Name: "XFRMFW-PRE", Rules: firewall.RulesOf([]firewall.Rule{
				{Target: firewall.Target{Verb: firewall.SetMark, Mask: marks.Both()}, Purpose: firewall.PurposeStray},
				{Purpose: firewall.PurposeUnknown},
			}...)},
			related, sel, guard,
			{Table: firewall.Mangle, Name: "XFRMFW-TAG", Rules: firewall.RulesOf([]firewall.Rule{
				{Target: firewall.Target{Verb: firewall.SetMark, Value: marks.Tag, Mask: marks.Tag}, Purpose: firewall.PurposeTag},
			}...)},
			{Table: firewall.Filter, Name: "XFRMFW-FWD", Rules: firewall.RulesOf([]firewall.Rule{
				{Policy: in, Target: accept, Purpose: firewall.PurposeAcceptIn},
				{Policy: out, Target: accept, Purpose: firewall.PurposeAcceptOut},
			}...)},
			{Table: firewall.Filter, Name: "XFRMFW-IN", Rules: firewall.RulesOf([]firewall.Rule{
				{Proto: xfrm.ESP, Target: accept, Purpose: firewall.PurposeOpen},
				{Proto: xfrm.UDP, DPorts: firewall.Port(4500), DstType: firewall.Local, Target: accept, Purpose: firewall.PurposeOpen},
				{Policy: in, Target: accept, Purpose: firewall.PurposeAcceptIn},
			}...)},
			{Table: firewall.Filter, Name: "XFRMFW-OUT", Rules: firewall.RulesOf([]firewall.Rule{
				{Proto: xfrm.ESP, Target: accept, Purpose: firewall.PurposeOpen},
				{Proto: xfrm.UDP, SPorts: firewall.Port(4500), SrcType: firewall.Local, Target: accept, Purpose: firewall.PurposeOpen},
				{Policy: out, Target: accept, Purpose: firewall.PurposeAcceptOut},
			}...)},
			{Table: firewall.NAT, Name: "XFRMFW-NAT", Rules: firewall.RulesOf([]firewall.Rule{
				{Policy: out, Target: accept, Purpose: firewall.PurposeNAT},
			}...)},
		}, Hooks: []firewall.Hook{{Table: firewall.Mangle, From: "PREROUTING", To: "XFRMFW-PRE"}}})
	}
	r.Tunnels = make([]firewall.TunnelReport, len(set.Tunnels))
	for i, t := range set.Tunnels {
		report := &r.Tunnels[i]
		report.Witness = firewall.Witness{Evidence: firewall.NoEvidence, Reason: "no inbound state: the tunnel is down"}
		for _, sa := range t.SAs {
			w := firewall.Witness{Evidence: firewall.NoEvidence, Reason: "outbound: what leaves is matched by the policy it goes into"}
			if sa.Inbound {
				w = firewall.Witness{Evidence: firewall.TagAndPolicy}
				if sa.Family == xfrm.IPv6 {
					w = firewall.Witness{Evidence: firewall.PolicyOnly, Reason: "esp6_offload is loaded: ESP may be decrypted before netfilter sees it"}
				}
				report.Witness = w
			}
			report.SAs = append(report.SAs, w)
		}
	}
	return r
}

// liveOf prints the rule sets as iptables-save would, with counters that differ
// from rule to rule, among a foreign rule, and reads that back.
func liveOf(t testing.TB, rulesets []firewall.Ruleset) map[firewall.Family]firewall.Save {
	t.Helper()
	live := make(map[firewall.Family]firewall.Save)
	for _, rs := range rulesets {
		var b strings.Builder
		n := uint64(0)
		for _, table := range []firewall.Table{firewall.Filter, firewall.Mangle, firewall.NAT} {
			fmt.Fprintf(&b, "*%s\n:INPUT ACCEPT [5:500]\n", table)
			for _, c := range rs.Chains {
				if c.Table == table {
					fmt.Fprintf(&b, ":%s - [0:0]\n", c.Name)
				}
			}
			fmt.Fprintf(&b, "[9:900] -A INPUT -i lo -j ACCEPT\n")
			for _, c := range rs.Chains {
				for _, r := range c.Rules.All() {
					if c.Table == table {
						n++
						fmt.Fprintf(&b, "[%d:%d] -A %s %s\n", n*37%101, n*37%101*840, c.Name, firewall.AppendLine(nil, rs.Family, table, c.Name, r))
					}
				}
			}
			b.WriteString("COMMIT\n")
		}
		save, err := firewall.ParseSave([]byte(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		live[rs.Family] = save
	}
	return live
}

// small is a gateway with one tunnel of each kind.
func small(t testing.TB) Input {
	t.Helper()
	s := snapshotOf(
		site{reqid: 1, local: "198.51.100.1", remote: "203.0.113.7", pairs: [][2]string{{"10.2.0.0/24", "10.1.0.0/24"}, {"10.2.9.0/24", "10.1.0.0/24"}}, ages: []uint64{3581, 12}},
		site{reqid: 2, local: "198.51.100.1", remote: "203.0.113.99", pairs: [][2]string{{"0.0.0.0/0", "10.99.0.5/32"}}, port: 1027, ages: []uint64{90061}},
		site{reqid: 3, local: "198.51.100.1", remote: "192.0.2.33", pairs: [][2]string{{"10.2.0.0/24", "172.16.0.0/12"}}},
		site{
			reqid: 4, local: "2001:db8:ffff:1234:5678:9abc:def0:1111", remote: "2001:db8:ffff:4321:8765:cba9:0fed:2222", ages: []uint64{61},
			pairs: [][2]string{{"fd00:2:aaaa:bbbb::/64", "fd00:1:cccc:dddd:1111:2222:3333:4444/128"}}, proto: xfrm.TCP, localPort: 443,
		},
	)
	s.Skipped = []xfrm.Ignored{{Object: "state message of 12 bytes", Reason: "shorter than its header"}}
	set := xfrm.Tunnels(s)
	in := Input{Snapshot: s, Set: set, Marks: firewall.DefaultMarks(), Result: resultOf(set), Variant: "nft", Peers: make(map[string]Peer)}
	for i, tun := range set.Tunnels {
		switch tun.Reqid {
		case 1:
			in.Result.Tunnels[i].Name = "office"
			in.Peers[tun.ID] = Peer{Connection: "office-v4", PeerID: "C=CH, O=Example, CN=gw.example.org"}
		case 2:
			in.Result.Tunnels[i].Name = "roadwarriors"
			in.Peers[tun.ID] = Peer{Connection: "roadwarriors", PeerID: "alice@example.org", User: "alice", VirtualIPs: []string{"10.99.0.5"}}
		}
	}
	in.Result.Guards = append(in.Result.Guards,
		firewall.GuardFacts{Guard: firewall.Guard{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.7.0.0/16"), Source: firewall.MemoryGuard, Since: now - 86400, Expires: now + 86400}},
		firewall.GuardFacts{Guard: firewall.Guard{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.8.0.0/16"), Source: firewall.ConfigGuard}},
		firewall.GuardFacts{Guard: firewall.Guard{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.8.9.0/24"), Source: firewall.MemoryGuard, Pierce: true}},
	)
	in.Live = liveOf(t, in.Result.Rulesets)
	in.Daemon = Daemon{Running: true, LastReconcile: "2025-03-01T11:59:48Z"}
	in.Warnings = []string{"interface eth0 has generic receive offload for UDP on, so the tag may be missing on ESP in UDP: turn it off with \"ethtool -K eth0 rx-udp-gro-forwarding off\""}
	return in
}

// large is a gateway with that many tunnels, compiled as in earnest.
func large(t testing.TB, n int) Input {
	t.Helper()
	sites := make([]site, n)
	for i := range sites {
		sites[i] = site{
			reqid: uint32(i + 1), local: "198.51.100.1", remote: fmt.Sprintf("203.0.%d.%d", i/200, i%200+1), ages: []uint64{uint64(i*37%9000 + 1)},
			pairs: [][2]string{{"10.2.0.0/16", fmt.Sprintf("172.%d.%d.0/24", 16+i/256, i%256)}},
		}
		if i%7 == 3 {
			sites[i].ages = nil
		}
	}
	s := snapshotOf(sites...)
	set := xfrm.Tunnels(s)
	in := Input{Snapshot: s, Set: set, Marks: firewall.DefaultMarks(), Result: resultOf(set), Variant: "legacy"}
	for i := range in.Result.Tunnels {
		if i%3 > 0 {
			in.Result.Tunnels[i].Name = fmt.Sprintf("site-%d", i)
		}
	}
	in.Live = liveOf(t, in.Result.Rulesets)
	return in
}

func with(rules firewall.Rules, more ...firewall.Rule) firewall.Rules {
	return firewall.RulesOf(append(rules.Slice(), more...)...)
}
