package firewall

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The chains of the guards. spoof, inject, leak and error are trees.
const (
	chainSpoof  = "XFRMFW-SPOOF"
	chainInject = "XFRMFW-INJECT"
	chainLeak   = "XFRMFW-LEAK"
	chainDown   = "XFRMFW-DOWN"
	chainRefuse = "XFRMFW-REFUSE"
	chainError  = "XFRMFW-ERROR"
	chainQuoted = "XFRMFW-QUOTED"
	chainMapped = "XFRMFW-MAPPED"
	chainPost   = "XFRMFW-POST"
	// chainArriving and chainLeaving are for what may be a guard's traffic, with
	// what is exempt from guards in INPUT and in POSTROUTING.
	chainArriving = "XFRMFW-ARRIVING"
	chainLeaving  = "XFRMFW-LEAVING"
	chainKnown    = "XFRMFW-KNOWN"
	// chainKnownFrom is the root of the tree that leads to those chains of KNOWN
	// that an outer address can lead to.
	chainKnownFrom = "XFRMFW-FROM"
	chainCrossed   = "XFRMFW-CROSSED"
	chainLAN       = "XFRMFW-LAN-"
	// chainRewritten and a letter name the chains of case 8b.
	chainRewritten = "XFRMFW-NATED-"
	// chainLocal and chainAbout begin the names of the chains that all pairs
	// with one local selector share, for cases 8 and 8b and for case 8c.
	chainLocal = "XFRMFW-LOCAL"
	chainAbout = "XFRMFW-ABOUT"
)

// guards builds cases 6, 6b, 8, 8b, 8c and 8d in mangle, where every drop is.
func (b *builder) guards() {
	within := b.guarding()
	toSpoof := Rule{Target: Target{Verb: Goto, Chain: chainSpoof + "-T"}, Purpose: PurposeDispatch}
	spoof := append(b.fromDevices(), b.neverJudged(false, within, bySource)...)
	b.chain(Mangle, chainSpoof, append(spoof, toSpoof)...)
	b.chain(Mangle, chainArriving, append(b.ownTraffic(false), Rule{Target: Target{Verb: Goto, Chain: chainSpoof}, Purpose: PurposeDispatch})...)
	b.grow(Mangle, chainSpoof+"-T", bySource, true, b.spoofEntries())

	inject := b.neverJudged(false, within, byDestination)
	for _, name := range b.Config.Guard.Asymmetric {
		inject = append(inject, Rule{In: name, Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	b.chain(Mangle, chainInject, append(inject, Rule{
		Target: Target{Verb: Goto, Chain: chainInject + "-T"}, Purpose: PurposeDispatch,
	})...)
	b.grow(Mangle, chainInject+"-T", byDestination, true, b.injectEntries())

	b.mapped()
	b.quoted()

	leaving := gather(append(slices.Clone(within), b.clamped...), maxGates)
	b.chain(Mangle, chainLeaving, b.postrouting(b.neverJudged(true, leaving, byDestination))...)
	b.chain(Mangle, chainPost, b.gates(leaving, byDestination, Rule{Target: Target{Verb: Goto, Chain: chainLeaving}})...)
	b.hook(Mangle, "POSTROUTING", chainPost)
	b.grow(Mangle, chainLeak, byDestination, true, b.leakEntries(Mangle))
	b.grow(Mangle, chainError, byDestination|rare, true, b.errorEntries())
}

// drop is the last rule of a guard.
func drop(purpose Purpose) Target {
	return Target{Verb: Goto, Chain: dropChain(purpose)}
}

// dropChain names the chain that counts, logs and drops a case.
func dropChain(purpose Purpose) string {
	switch purpose {
	case PurposeSpoof:
		return "XFRMFW-DROP-SPOOF"
	case PurposeInject:
		return "XFRMFW-DROP-INJECT"
	case PurposeCrossed:
		return chainCrossed
	}
	return "XFRMFW-DROP-LEAK"
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
		if tc, ok := b.config(&b.Set.Tunnels[tunnel]); ok && tc.Name != "" {
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
func (b *builder) guardEntries(place guardPlace, inbound bool, rules func(Guard, Rule) []Rule) stand {
	counts, match := Guard.outbound, outboundRule
	if inbound {
		counts, match = Guard.inbound, inboundRule
	}
	remake := func(i int) []Rule {
		g := b.all[i]
		if g.Pierce {
			return pierced(match(g))
		}
		return rules(g, match(g))
	}
	return stand{touched: b.touched, in: func(list []entry, p netip.Prefix) []entry {
		for _, i := range b.guardsIn(p) {
			g := &b.all[i]
			if counts(*g) && (!g.Pierce || b.beside == nil || b.beside.overlaps(g.Remote)) {
				list = append(list, keptEntry(g.Remote, b.kept(i, place), i, remake))
			}
		}
		return list
	}}
}

// spoofEntries drop what is not verified and comes from a remote selector to
// its local one (case 6), in INPUT and FORWARD: after DNAT.
func (b *builder) spoofEntries() stand {
	return b.guardEntries(inSpoof, true, func(g Guard, match Rule) []Rule {
		r := match
		r.Target, r.Purpose = drop(PurposeSpoof), PurposeSpoofGuard
		return b.guarded(Mangle, "S", g, true, match, []Rule{r})
	})
}

// injectEntries drop what claims to come from a local selector, but not by the
// interface that it lives behind: the gateway would encrypt it (case 6b).
func (b *builder) injectEntries() stand {
	return b.guardEntries(inInject, false, func(_ Guard, r Rule) []Rule {
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
func (b *builder) leakEntries(table Table) stand { return b.leakEntriesNamed(table, "L") }

// leakEntriesNamed is leakEntries with a letter for the chains that it makes.
func (b *builder) leakEntriesNamed(table Table, letter string) stand {
	place := inRefuse
	if table == Mangle {
		place = inLeak
		var last netip.Prefix
		for _, r := range b.standing {
			g := &b.all[r.at]
			if g.Pierce || g.Local == last {
				continue
			}
			if made := b.made[b.sharedName(chainLocal, g.Local)]; made || b.sharesLeak(*g) {
				if !made {
					b.localChain(*g)
				}
				last = g.Local
			}
		}
	}
	return b.guardEntries(place, false, func(g Guard, match Rule) []Rule {
		if b.byDestinationAlone(g) {
			match.Src = netip.PrefixFrom(g.Local.Addr(), 0).Masked()
			match.SPorts = Ports{}
		}
		r := match
		r.Purpose = PurposeLeakGuard
		switch {
		case table != Mangle:
			// Only what shows no policy is led to filter's trees.
			r.Target = Target{Verb: Goto, Chain: chainRefuse}
			return b.guarded(table, letter, g, false, match, []Rule{r})
		case b.sharesLeak(g):
			r.Target = Target{Verb: Jump, Chain: b.sharedName(chainLocal, g.Local)}
			return b.guarded(table, letter, g, false, match, []Rule{r})
		}
		r.Policy, r.Target = PolicyMatch{Dir: PolicyOut, None: true}, drop(PurposeLeak)
		return b.guarded(table, letter, g, false, match, append([]Rule{r}, b.rewritten(g)...))
	})
}

// sharesLeak reports whether the rules of cases 8 and 8b for a guard depend on
// its local selector only, besides what matches its traffic.
func (b *builder) sharesLeak(g Guard) bool {
	return g.Local.Bits() > 0 && !b.byDestinationAlone(g) && len(b.siblings(g)) == 1
}

// localChain holds the rules of cases 8 and 8b for a local selector, which all
// pairs with it share: most tunnels of a gateway have the same one, so a tunnel
// costs one rule in place of three.
func (b *builder) localChain(g Guard) {
	name := b.sharedName(chainLocal, g.Local)
	b.made[name] = true
	rules := []Rule{{Policy: PolicyMatch{Dir: PolicyOut, None: true}, Target: drop(PurposeLeak), Purpose: PurposeLeakGuard}}
	for _, r := range b.rewritten(g) {
		rules = append(rules, Rule{Ct: r.Ct, Target: r.Target, Purpose: r.Purpose})
	}
	b.chain(Mangle, name, rules...)
}

// errorEntries are case 8c: an ICMP error quotes the packet that it is about, so
// it must not go to a remote selector in clear unless it belongs to another flow.
func (b *builder) errorEntries() stand {
	remake := func(i int) []Rule {
		g := b.all[i]
		match := Rule{Dst: g.Remote}
		if g.Pierce {
			return pierced(Rule{Src: g.Local, Dst: g.Remote, Tunnel: g.Tunnel})
		}
		return b.guarded(Mangle, "E", g, false, match, b.errorRules(g))
	}
	var last netip.Prefix
	for _, r := range b.standing {
		if g := &b.all[r.at]; !g.Pierce && g.Local != last && !g.Local.Overlaps(g.Remote) {
			b.aboutChain(g.Local)
			last = g.Local
		}
	}
	return stand{touched: b.touched, in: func(list []entry, p netip.Prefix) []entry {
		for _, i := range b.guardsIn(p) {
			if g := &b.all[i]; g.outbound() {
				list = append(list, keptEntry(g.Remote, b.kept(i, inError), i, remake))
			}
		}
		return list
	}}
}

// errorFlows are the errors that must not go from a local to a remote selector.
func errorFlows(local, remote netip.Prefix) []CtMatch {
	return []CtMatch{
		{State: CtRelated, NotState: true},
		{State: CtRelated, OrigSrc: remote, OrigDst: local},
		{State: CtRelated, OrigSrc: local, OrigDst: remote},
		{State: CtRelated, ReplSrc: local},
	}
}

// errorRules drop a pair's errors. One that goes to the remote selector and is
// about a flow of the local one is about a flow between the two, as long as the
// selectors are apart: then the rules name the local one only, and stand once
// for all pairs that have it.
func (b *builder) errorRules(g Guard) []Rule {
	base := Rule{Dst: g.Remote, Purpose: PurposeLeakGuard, Tunnel: g.Tunnel}
	if !g.Local.Overlaps(g.Remote) {
		base.Target = Target{Verb: Jump, Chain: b.sharedName(chainAbout, g.Local)}
		return []Rule{base}
	}
	var rules []Rule
	for _, ct := range errorFlows(g.Local, g.Remote) {
		r := base
		r.Ct, r.Target = ct, drop(PurposeLeak)
		rules = append(rules, r)
	}
	return rules
}

// aboutChain holds the rules of case 8c for a local selector.
func (b *builder) aboutChain(local netip.Prefix) {
	name := b.sharedName(chainAbout, local)
	if b.made[name] {
		return
	}
	b.made[name] = true
	var rules []Rule
	for _, ct := range errorFlows(local, netip.Prefix{}) {
		rules = append(rules, Rule{Ct: ct, Target: drop(PurposeLeak), Purpose: PurposeLeakGuard})
	}
	b.chain(Mangle, name, rules...)
}
