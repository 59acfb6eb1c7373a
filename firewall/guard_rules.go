package firewall

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The chains of the guards. spoof, inject, leak and error are trees.
const (
	chainSpoof   = "XFRMFW-SPOOF"
	chainInject  = "XFRMFW-INJECT"
	chainLeak    = "XFRMFW-LEAK"
	chainDown    = "XFRMFW-DOWN"
	chainError   = "XFRMFW-ERROR"
	chainPost    = "XFRMFW-POST"
	chainKnown   = "XFRMFW-KNOWN"
	chainCrossed = "XFRMFW-CROSSED"
	chainLAN     = "XFRMFW-LAN-"
	// chainRewritten and a letter name the chains of case 8b.
	chainRewritten = "XFRMFW-NATED-"
)

// guards builds cases 6, 6b, 8, 8b, 8c and 8d in mangle, where every drop is.
func (b *builder) guards() {
	never := b.neverJudged(false)
	b.chain(Mangle, chainSpoof, append(slices.Clone(never), Rule{
		Target: Target{Verb: Goto, Chain: chainSpoof + "-T"}, Purpose: PurposeDispatch,
	})...)
	b.set.Chains = append(b.set.Chains, dispatch(Mangle, chainSpoof+"-T", true, b.spoofEntries())...)

	inject := slices.Clone(never)
	for _, name := range b.Config.Guard.Asymmetric {
		inject = append(inject, Rule{In: name, Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	b.chain(Mangle, chainInject, append(inject, Rule{
		Target: Target{Verb: Goto, Chain: chainInject + "-T"}, Purpose: PurposeDispatch,
	})...)
	b.set.Chains = append(b.set.Chains, dispatch(Mangle, chainInject+"-T", false, b.injectEntries())...)

	b.chain(Mangle, chainPost, b.postrouting(b.neverJudged(true))...)
	b.hook(Mangle, "POSTROUTING", chainPost)
	b.set.Chains = append(b.set.Chains, dispatch(Mangle, chainLeak, false, b.leakEntries(Mangle))...)
	b.set.Chains = append(b.set.Chains, dispatch(Mangle, chainError, false, b.errorEntries())...)
}

// neverJudged returns what no guard looks at: what is not for a tunnel's sites,
// or keeps the link itself alive. Neighbours are never asked through a router,
// so of what passes through this host nothing is spared for its type.
func (b *builder) neverJudged(outbound bool) []Rule {
	var sources, destinations []string
	if b.family == xfrm.IPv4 {
		sources = []string{"0.0.0.0/32", "169.254.0.0/16"}
		destinations = []string{"224.0.0.0/4", "255.255.255.255/32", "169.254.0.0/16"}
	} else {
		// Neighbour discovery and DHCPv6 use link-local or multicast addresses,
		// or the unspecified one.
		sources = []string{"::/128", "fe80::/10"}
		destinations = []string{"ff00::/8", "fe80::/10"}
	}
	var rules []Rule
	for _, s := range sources {
		rules = append(rules, Rule{Src: netip.MustParsePrefix(s), Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	for _, d := range destinations {
		rules = append(rules, Rule{Dst: netip.MustParsePrefix(d), Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	if b.family == xfrm.IPv6 {
		// A neighbour may be asked from and at its global address too.
		for _, kind := range []uint8{133, 134, 135, 136} {
			r := Rule{Proto: xfrm.ICMPv6, ICMP: ICMPMatch{Set: true, Type: kind}, Target: Target{Verb: Return}, Purpose: PurposeExempt}
			if outbound {
				r.SrcType = Local
			} else {
				r.DstType = Local
			}
			rules = append(rules, r)
		}
	}
	return rules
}

// ownTraffic returns what this host itself needs before there are tunnels: its
// own IKE, ESP, AH and DHCP as they leave or arrive. With a selector that covers
// the other end's address they would be judged.
func (b *builder) ownTraffic(outbound bool) []Rule {
	rules := []Rule{{Proto: xfrm.ESP}, {Proto: xfrm.AH}}
	for _, port := range []uint16{ike, natT} {
		rules = append(rules, Rule{Proto: xfrm.UDP, DPorts: Port(port)})
	}
	for _, at := range b.encapPorts() {
		rules = append(rules, Rule{Dst: single(at.Addr()), Proto: xfrm.UDP, DPorts: Port(at.Port())})
	}
	dhcp := Rule{Proto: xfrm.UDP, SPorts: Port(67), DPorts: Port(68)}
	if b.family == xfrm.IPv6 {
		dhcp.SPorts, dhcp.DPorts = Port(547), Port(546)
	}
	rules = append(rules, dhcp)
	for i := range rules {
		r := &rules[i]
		r.Target, r.Purpose, r.DstType = Target{Verb: Return}, PurposeExempt, Local
		if outbound {
			r.Src, r.Dst, r.SPorts, r.DPorts = r.Dst, r.Src, r.DPorts, r.SPorts
			r.SrcType, r.DstType = Local, ""
		}
	}
	return rules
}

// drop is the last rule of a guard.
func drop(purpose Purpose) Target {
	return Target{Verb: Goto, Chain: dropChain(purpose)}
}

// dropChain names the chain that counts, logs and drops a case.
func dropChain(purpose Purpose) string {
	return map[Purpose]string{
		PurposeSpoof: "XFRMFW-DROP-SPOOF", PurposeInject: "XFRMFW-DROP-INJECT",
		PurposeCrossed: chainCrossed, PurposeLeak: "XFRMFW-DROP-LEAK",
	}[purpose]
}

// dropChains end the cases, each in a chain of its own, where it is counted.
func (b *builder) dropChains() {
	for _, p := range []Purpose{PurposeSpoof, PurposeInject, PurposeCrossed, PurposeLeak} {
		var rules []Rule
		if log, ok := b.Config.Log.target(p); ok {
			rules = append(rules, Rule{
				Limit: Limit{PerSecond: b.Config.Log.PerSecond, Burst: b.Config.Log.PerSecond}, Target: log, Purpose: PurposeLog,
			})
		}
		b.chain(Mangle, dropChain(p), append(rules, Rule{Target: Target{Verb: Drop}, Purpose: p})...)
	}
}

// lanSpots are the connected networks under a guard's remote selector, each on
// its own interface. A LAN is never cut from its own gateway.
func (b *builder) lanSpots(g Guard) []lanSpot {
	var spots []lanSpot
	for _, s := range b.connected {
		if s.network.Overlaps(g.Remote) {
			spots = append(spots, s)
		}
	}
	if !g.Routed {
		return spots
	}
	// What is routed into a device gives way to a more specific route elsewhere.
	for _, r := range b.Host.Routes {
		l, ok := b.Host.Link(r.Link)
		if !ok || l.Name == "lo" || b.isTunnelDevice(l.Name) || r.Dst.Bits() <= g.Remote.Bits() || !r.Dst.Overlaps(g.Remote) {
			continue
		}
		if s := (lanSpot{r.Dst, l.Name}); !slices.Contains(spots, s) {
			spots = append(spots, s)
		}
	}
	return spots
}

// lanChain names the chain of a guard's connected networks.
func lanChain(letter string, g Guard) string {
	return stableName(chainLAN+letter, fmt.Sprint(g.key()), g.Tunnel)
}

// lanSpot is a network that an interface is connected to.
type lanSpot struct {
	network netip.Prefix
	device  string
}

// connectedNetworks lists the networks of this host's interfaces, without the
// tunnel devices and without its single addresses.
func connectedNetworks(host xfrm.Host, tunnelDevice func(string) bool) []lanSpot {
	var spots []lanSpot
	for _, a := range host.Addresses {
		l, ok := host.Link(a.Link)
		if !ok || l.Name == "lo" || a.Prefix.IsSingleIP() || a.Prefix.Bits() == 0 || tunnelDevice(l.Name) || neverJudged(a.Prefix.Addr()) {
			continue
		}
		s := lanSpot{a.Prefix.Masked(), l.Name}
		if !slices.Contains(spots, s) {
			spots = append(spots, s)
		}
	}
	return spots
}

// guarded wraps a guard's final rules so that the connected networks below it
// are spared, but not the tunnel's own peer: a chain of its own, left by RETURN
// towards the guards that come after. toward tells which address is the remote.
func (b *builder) guarded(table Table, name string, g Guard, source bool, jump Rule, final []Rule) []Rule {
	spots := b.lanSpots(g)
	if len(spots) == 0 {
		return final
	}
	at := func(r Rule, p netip.Prefix) Rule {
		if source {
			r.Src = p
		} else {
			r.Dst = p
		}
		return r
	}
	var rules []Rule
	if g.Peer.IsValid() && g.Remote.Contains(g.Peer) {
		for _, r := range final {
			rules = append(rules, at(r, single(g.Peer)))
		}
	}
	for _, s := range spots {
		network := s.network
		if network.Bits() < g.Remote.Bits() {
			network = g.Remote
		}
		r := at(Rule{Target: Target{Verb: Return}, Purpose: PurposeLAN, Tunnel: g.Tunnel}, network)
		if source {
			r.In = s.device
		} else {
			r.Out = s.device
		}
		rules = append(rules, r)
	}
	b.chain(table, name, append(rules, final...)...)
	jump.Target, jump.Purpose, jump.Tunnel = Target{Verb: Jump, Chain: name}, PurposeDispatch, g.Tunnel
	return []Rule{jump}
}

// pierced is the rule of an exception.
func pierced(r Rule) []Rule {
	r.Target, r.Purpose = Target{Verb: Return}, PurposePierce
	return []Rule{r}
}

// inboundRule and outboundRule match a guard's traffic.
func inboundRule(g Guard) Rule {
	r := selectors(g.pair())
	r.Tunnel = g.Tunnel
	return r
}

func outboundRule(g Guard) Rule {
	p := g.pair()
	r := withPorts(Rule{Src: p.Local, Dst: p.Remote, Proto: p.Proto}, p, p.LocalPort, p.RemotePort)
	r.Tunnel = g.Tunnel
	return r
}

// spoofEntries drop what is not verified and comes from a remote selector to
// its local one (case 6), in INPUT and FORWARD: after DNAT.
func (b *builder) spoofEntries() []entry {
	var entries []entry
	for _, g := range b.all {
		if g.family() != b.family || !g.inbound() {
			continue
		}
		r := inboundRule(g)
		if g.Pierce {
			entries = append(entries, entry{g.Remote, pierced(r)})
			continue
		}
		match := r
		r.Target, r.Purpose = drop(PurposeSpoof), PurposeSpoofGuard
		name := lanChain("S", g)
		entries = append(entries, entry{g.Remote, b.guarded(Mangle, name, g, true, match, []Rule{r})})
	}
	return entries
}

// injectEntries drop what claims to come from a local selector, but not by the
// interface that it lives behind: the gateway would encrypt it (case 6b).
func (b *builder) injectEntries() []entry {
	var entries []entry
	for _, g := range b.all {
		if g.family() != b.family || !g.outbound() {
			continue
		}
		r := outboundRule(g)
		if g.Pierce {
			entries = append(entries, entry{g.Remote, pierced(r)})
			continue
		}
		r.NotReverse, r.Target, r.Purpose = true, drop(PurposeInject), PurposeInjectGuard
		entries = append(entries, entry{g.Remote, []Rule{r}})
	}
	return entries
}

// postrouting is the one choke point for what leaves: after DNAT, with the real
// outgoing interface.
func (b *builder) postrouting(never []Rule) []Rule {
	rules := []Rule{{Out: "lo", Target: Target{Verb: Return}, Purpose: PurposeExempt}}
	rules = append(rules, b.deviceExempt()...)
	rules = append(rules, never...)
	rules = append(rules, b.ownTraffic(true)...)
	rules = append(rules, Rule{
		Proto: xfrm.TCP, Policy: PolicyMatch{Dir: PolicyOut}, Target: Target{Verb: Jump, Chain: chainMSSOut}, Purpose: PurposeDispatch,
	})
	clear := PolicyMatch{Dir: PolicyOut, None: true}
	for _, kind := range b.errorTypes() {
		rules = append(rules, Rule{
			Proto: b.icmp(), ICMP: ICMPMatch{Set: true, Type: kind}, Policy: clear,
			Target: Target{Verb: Jump, Chain: chainError}, Purpose: PurposeDispatch,
		})
	}
	return append(rules, Rule{Target: Target{Verb: Goto, Chain: chainLeak}, Purpose: PurposeDispatch})
}

// deviceExempt spares what goes into tunnel devices: on that pass no policy
// shows, and what comes out of them below is judged on its own.
func (b *builder) deviceExempt() []Rule {
	var rules []Rule
	for _, name := range b.tunnelDevices() {
		rules = append(rules, Rule{Out: name, Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	return rules
}

// errorTypes are the ICMP errors, all of which quote the packet they are about.
func (b *builder) errorTypes() []uint8 {
	if b.family == xfrm.IPv6 {
		return []uint8{1, 2, 3, 4}
	}
	return []uint8{3, 11, 12}
}

// leakEntries catch what goes to a remote selector in clear (8, 8d), or will,
// since an older NAT decision takes it out of the policy after all hooks (8b).
// In filter the sender is told; the drop is mangle's.
func (b *builder) leakEntries(table Table) []entry { return b.leakEntriesNamed(table, "L") }

// leakEntriesNamed is leakEntries with a letter for the chains that it makes.
func (b *builder) leakEntriesNamed(table Table, letter string) []entry {
	var entries []entry
	for _, g := range b.all {
		if g.family() != b.family || !g.outbound() {
			continue
		}
		r := outboundRule(g)
		if g.Pierce {
			entries = append(entries, entry{g.Remote, pierced(r)})
			continue
		}
		if b.byDestinationAlone(g) {
			r.Src = netip.PrefixFrom(g.Local.Addr(), 0).Masked()
			r.SPorts = Ports{}
		}
		match := r
		r.Policy = PolicyMatch{Dir: PolicyOut, None: true}
		r.Target, r.Purpose = drop(PurposeLeak), PurposeLeakGuard
		name := lanChain(letter, g)
		if table == Filter {
			r.Target, r.Purpose = Target{Verb: Reject}, PurposeReject
			entries = append(entries, entry{g.Remote, b.guarded(table, name, g, false, match, []Rule{r})})
			continue
		}
		final := append([]Rule{r}, b.rewritten(g)...)
		entries = append(entries, entry{g.Remote, b.guarded(table, name, g, false, match, final)})
	}
	return entries
}

// rewritten is case 8b: the flow was NATed before the tunnel came up. nat is not
// asked again, and after every hook the source is rewritten to something that no
// policy claims. Only the direction in which that happens is stopped: without
// it, flows that are SNATed into the LAN would be cut. Rewritten into another
// local selector of the same tunnel and remote it still matches, so where there
// are several the decision is a chain that they share.
func (b *builder) rewritten(g Guard) []Rule {
	if g.Local.Bits() == 0 {
		return nil
	}
	locals := b.siblings(g)
	snat, dnat := outboundRule(g), outboundRule(g)
	snat.Ct = CtMatch{State: CtSNAT, Dir: CtOriginal}
	dnat.Ct = CtMatch{State: CtDNAT, Dir: CtReply}
	if len(locals) == 1 {
		snat.Ct.ReplDst, snat.Ct.NotReplDst = g.Local, true
		dnat.Ct.OrigDst, dnat.Ct.NotOrigDst = g.Local, true
		for _, r := range []*Rule{&snat, &dnat} {
			r.Target, r.Purpose = drop(PurposeLeak), PurposeLeakGuard
		}
		return []Rule{snat, dnat}
	}
	for _, at := range []struct {
		rule *Rule
		name string
		ct   func(netip.Prefix) CtMatch
	}{
		{&snat, stableName(chainRewritten+"S", g.Tunnel, g.Remote.String()), func(l netip.Prefix) CtMatch { return CtMatch{ReplDst: l} }},
		{&dnat, stableName(chainRewritten+"D", g.Tunnel, g.Remote.String()), func(l netip.Prefix) CtMatch { return CtMatch{OrigDst: l} }},
	} {
		at.rule.Target, at.rule.Purpose = Target{Verb: Goto, Chain: at.name}, PurposeDispatch
		if b.made[at.name] {
			continue
		}
		b.made[at.name] = true
		var rules []Rule
		for _, l := range locals {
			rules = append(rules, Rule{Ct: at.ct(l), Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: g.Tunnel})
		}
		b.chain(Mangle, at.name, append(rules, Rule{Target: drop(PurposeLeak), Purpose: PurposeLeakGuard, Tunnel: g.Tunnel})...)
	}
	return []Rule{snat, dnat}
}

// siblings are the local selectors of a guard's tunnel with the same remote.
func (b *builder) siblings(g Guard) []netip.Prefix {
	var locals []netip.Prefix
	seen := make(map[netip.Prefix]bool)
	for _, i := range b.byRemote[g.Remote] {
		if o := b.all[i]; !o.Pierce && o.Tunnel == g.Tunnel && !seen[o.Local] {
			seen[o.Local] = true
			locals = append(locals, o.Local)
		}
	}
	return locals
}

// stableName names a chain by what it is for, so that nothing else's coming and
// going renames it.
func stableName(root string, words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, " ")))
	return root + "-" + base64.RawURLEncoding.EncodeToString(sum[:])[:11]
}

// byDestinationAlone is case 8d: while a tunnel is down its virtual IP is gone,
// or SNAT maps into its local selector only after all hooks. Then no source
// tells its traffic.
func (b *builder) byDestinationAlone(g Guard) bool {
	if b.up[g.Tunnel] || g.Local.Bits() == 0 {
		return false
	}
	if slices.ContainsFunc(b.NATSources, g.Local.Overlaps) {
		return true
	}
	here := slices.ContainsFunc(b.Host.Addresses, func(a xfrm.Address) bool { return g.Local.Contains(a.Prefix.Addr()) })
	routed := slices.ContainsFunc(b.Host.Routes, func(r xfrm.Route) bool { return r.Dst.Bits() != 0 && r.Dst.Overlaps(g.Local) })
	return !here && !routed
}

// errorEntries are case 8c: an ICMP error quotes the packet that it is about, so
// it must not go to a remote selector in clear unless it belongs to another flow.
func (b *builder) errorEntries() []entry {
	var entries []entry
	for _, g := range b.all {
		if g.family() != b.family || !g.outbound() {
			continue
		}
		if g.Pierce {
			entries = append(entries, entry{g.Remote, pierced(Rule{Src: g.Local, Dst: g.Remote, Tunnel: g.Tunnel})})
			continue
		}
		base := Rule{Dst: g.Remote, Target: drop(PurposeLeak), Purpose: PurposeLeakGuard, Tunnel: g.Tunnel}
		var final []Rule
		for _, ct := range []CtMatch{
			{State: CtRelated, NotState: true},
			{State: CtRelated, OrigSrc: g.Remote, OrigDst: g.Local},
			{State: CtRelated, OrigSrc: g.Local, OrigDst: g.Remote},
			{State: CtRelated, ReplSrc: g.Local},
		} {
			r := base
			r.Ct = ct
			final = append(final, r)
		}
		name := lanChain("E", g)
		match := Rule{Dst: g.Remote}
		entries = append(entries, entry{g.Remote, b.guarded(Mangle, name, g, false, match, final)})
	}
	return entries
}
