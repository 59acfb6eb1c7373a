package firewall

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The chains of the guards. spoof, inject, leak and error are trees.
const (
	chainSpoof   = "XFRMFW-SPOOF"
	chainInject  = "XFRMFW-INJECT"
	chainLeak    = "XFRMFW-LEAK"
	chainDown    = "XFRMFW-DOWN"
	chainRefuse  = "XFRMFW-REFUSE"
	chainError   = "XFRMFW-ERROR"
	chainQuoted  = "XFRMFW-QUOTED"
	chainMapped  = "XFRMFW-MAPPED"
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

	b.mapped()
	b.quoted()

	b.chain(Mangle, chainPost, b.postrouting(b.neverJudged(true))...)
	b.hook(Mangle, "POSTROUTING", chainPost)
	b.set.Chains = append(b.set.Chains, dispatch(Mangle, chainLeak, false, b.leakEntries(Mangle))...)
	b.set.Chains = append(b.set.Chains, dispatch(Mangle, chainError, false, b.errorEntries())...)
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
		b.chain(Mangle, dropChain(p), append(b.logged(p), Rule{Target: Target{Verb: Drop}, Purpose: p})...)
	}
	b.chain(Filter, chainRefuse, append(b.logged(PurposeLeak), Rule{Target: Target{Verb: Reject}, Purpose: PurposeReject})...)
}

// logged writes about a case, at a bounded rate. The cases have one rule for
// all tunnels, so that a tunnel more costs no rule more; the addresses that are
// logged tell which it was.
func (b *builder) logged(p Purpose) []Rule { return b.loggedAs(string(p), -1) }

// loggedAs writes about a drop in a tunnel's own chain, and names the tunnel as
// the configuration does, or by its ID: nothing of what a peer calls itself.
func (b *builder) loggedAs(word string, tunnel int) []Rule {
	name, id := "", ""
	if tunnel >= 0 {
		id = b.Set.Tunnels[tunnel].ID
		name = id
		if tc, ok := b.config(b.Set.Tunnels[tunnel]); ok && tc.Name != "" {
			name = tc.Name
		}
	}
	log, ok := b.Config.Log.target(word, name)
	if !ok {
		return nil
	}
	return []Rule{{
		Limit:  Limit{PerSecond: b.Config.Log.PerSecond, Burst: b.Config.Log.PerSecond},
		Target: log, Purpose: PurposeLog, Tunnel: id,
	}}
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

// guardEntries returns an entry for each guard of this family that counts in a
// direction: what rules makes of the rule that matches the guard's traffic, or
// for an exception the rule that leaves it alone.
func (b *builder) guardEntries(inbound bool, rules func(Guard, Rule) []Rule) []entry {
	counts, match := Guard.outbound, outboundRule
	if inbound {
		counts, match = Guard.inbound, inboundRule
	}
	var entries []entry
	for _, g := range b.all {
		switch {
		case g.family() != b.family || !counts(g):
		case g.Pierce:
			entries = append(entries, entry{g.Remote, pierced(match(g))})
		default:
			entries = append(entries, entry{g.Remote, rules(g, match(g))})
		}
	}
	return entries
}

// spoofEntries drop what is not verified and comes from a remote selector to
// its local one (case 6), in INPUT and FORWARD: after DNAT.
func (b *builder) spoofEntries() []entry {
	return b.guardEntries(true, func(g Guard, match Rule) []Rule {
		r := match
		r.Target, r.Purpose = drop(PurposeSpoof), PurposeSpoofGuard
		return b.guarded(Mangle, lanChain("S", g), g, true, match, []Rule{r})
	})
}

// injectEntries drop what claims to come from a local selector, but not by the
// interface that it lives behind: the gateway would encrypt it (case 6b).
func (b *builder) injectEntries() []entry {
	return b.guardEntries(false, func(_ Guard, r Rule) []Rule {
		r.NotReverse, r.Target, r.Purpose = true, drop(PurposeInject), PurposeInjectGuard
		return []Rule{r}
	})
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
	return b.guardEntries(false, func(g Guard, match Rule) []Rule {
		if b.byDestinationAlone(g) {
			match.Src = netip.PrefixFrom(g.Local.Addr(), 0).Masked()
			match.SPorts = Ports{}
		}
		r := match
		r.Policy = PolicyMatch{Dir: PolicyOut, None: true}
		r.Target, r.Purpose = Target{Verb: Goto, Chain: chainRefuse}, PurposeLeakGuard
		final := []Rule{r}
		if table == Mangle {
			final[0].Target = drop(PurposeLeak)
			final = append(final, b.rewritten(g)...)
		}
		return b.guarded(table, lanChain(letter, g), g, false, match, final)
	})
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
