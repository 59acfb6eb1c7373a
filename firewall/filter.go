package firewall

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// filter builds the accepts. It decides nothing: mangle has classified.
func (b *builder) filter() {
	var in, fwd, out []Rule
	in = append(in, b.open(inBy, true)...)
	out = append(out, b.open(outBy, false)...)
	if b.anyLeaves() {
		fwd = append(fwd, b.tellLeaks(chainLeak, nil)...)
		b.grow(Filter, chainLeak+"-T", byDestination, true, b.leakEntries(Filter))
	}
	out = append(out, Rule{Out: "lo", Target: Target{Verb: Return}, Purpose: PurposeExempt})
	if down := b.downEntries(); len(down) > 0 {
		out = append(out, b.tellLeaks(chainDown, b.ownTraffic(true))...)
		b.dispatch(Filter, chainDown+"-T", byDestination, down)
	}

	restrictIn, restrictOut := b.restrictions()
	in = append(in, restrictIn...)
	fwd = append(append(fwd, restrictIn...), restrictOut...)
	out = append(out, restrictOut...)
	if !b.Config.MarkOnly {
		accept := b.acceptIn()
		b.bare()
		in = append(in, accept...)
		if b.offload {
			fwd = append(fwd, Rule{
				Mark: has(b.Config.Marks.Verified), Target: Target{Verb: Accept}, Purpose: PurposeAcceptIn,
			})
		}
		fwd = append(fwd, accept...)
	}
	fwd = append(fwd, b.strangers()...)
	fwd = append(fwd, b.acceptOut()...)
	out = append(out, b.acceptOut()...)
	if toLockdown := b.lockdown(); toLockdown != nil {
		in, fwd = append(in, toLockdown...), append(fwd, toLockdown...)
	}
	b.chain(Filter, chainIn, in...)
	b.chain(Filter, chainFwd, fwd...)
	b.chain(Filter, chainOut, out...)
	b.hook(Filter, "INPUT", chainIn)
	b.hook(Filter, "FORWARD", chainFwd)
	b.hook(Filter, "OUTPUT", chainOut)
}

// anyLeaves reports whether there are guards, or exceptions, for what leaves.
func (b *builder) anyLeaves() bool {
	return slices.ContainsFunc(b.standing, func(r *guardRules) bool { return b.all[r.at].outbound() })
}

// tellLeaks sends what would leave in clear to a tree of rules that refuse it,
// so that the sender need not wait for a timeout. mangle drops the rest.
func (b *builder) tellLeaks(name string, own []Rule) []Rule {
	within := b.guarding()
	rules := append(b.deviceExempt(), b.neverJudged(true, within, byDestination)...)
	rules = append(rules, own...)
	rules = append(rules, Rule{Target: Target{Verb: Goto, Chain: name + "-T"}, Purpose: PurposeDispatch})
	b.chain(Filter, name, rules...)
	return b.gates(within, byDestination, Rule{
		Policy: PolicyMatch{Dir: PolicyOut, None: true}, Target: Target{Verb: Jump, Chain: name},
	})
}

// downEntries are the leaks of this host's own. Where a live policy stands, a
// packet that shows none is one that the kernel holds until the tunnel is up,
// so only pairs without one are refused, and pierced as the policies have it.
func (b *builder) downEntries() []entry {
	live := func(g *Guard) bool { return g.Source == LiveGuard && !g.Pierce && g.Dirs&(1<<xfrm.Out) != 0 }
	any := false
	for i := range b.all {
		g := &b.all[i]
		any = any || !g.Pierce && g.family() == b.family && !live(g)
	}
	if !any {
		return nil
	}
	all, plain := b.all, b.plain
	defer func() { b.all, b.plain, b.beside = all, plain, nil }()
	b.all, b.plain = slices.Clone(all), nil
	down := prefixSet{}
	for i := range all {
		if g := &all[i]; !g.Pierce && g.family() == b.family && !live(g) {
			down.add(g.Remote)
		}
	}
	down.sort()
	// An exception from none of these pairs would decide nothing.
	b.beside = &down
	for i := range b.all {
		if g := &b.all[i]; live(g) {
			g.Pierce = true
		}
	}
	return b.leakEntriesNamed(Filter, "O").in(nil, netip.Prefix{})
}

// open lets IKE, ESP and AH in or out, tunnel up or not: the first road warrior
// must get in. The local port decides, never the peer's.
func (b *builder) open(by func(*Rule, string), inbound bool) []Rule {
	accept := Target{Verb: Accept}
	rules := []Rule{
		{Proto: xfrm.ESP, Target: accept, Purpose: PurposeOpen},
		{Proto: xfrm.AH, Target: accept, Purpose: PurposeOpen},
	}
	for _, port := range []uint16{ike, natT} {
		r := Rule{Proto: xfrm.UDP, Target: accept, Purpose: PurposeOpen}
		if inbound {
			r.DPorts, r.DstType = Port(port), Local
		} else {
			r.SPorts, r.SrcType = Port(port), Local
		}
		rules = append(rules, r)
	}
	for _, at := range b.encapPorts() {
		r := Rule{Proto: xfrm.UDP, Target: accept, Purpose: PurposeOpen}
		if inbound {
			r.Dst, r.DPorts = single(at.Addr()), Port(at.Port())
		} else {
			r.Src, r.SPorts = single(at.Addr()), Port(at.Port())
		}
		rules = append(rules, r)
	}
	var all []Rule
	for _, r := range rules {
		all = append(all, b.onWAN(r, by)...)
	}
	return all
}

// acceptIn lets verified traffic in: with the policy match beside the mark,
// where the hook has one, and on the mark alone on overlay devices.
func (b *builder) acceptIn() []Rule {
	rules := []Rule{{
		Mark: has(b.Config.Marks.Verified), Policy: PolicyMatch{Dir: PolicyIn},
		Target: Target{Verb: Accept}, Purpose: PurposeAcceptIn,
	}}
	for _, o := range b.overlays {
		for _, name := range o.devices {
			rules = append(rules, Rule{
				In: name, Mark: has(b.Config.Marks.Verified),
				Target: Target{Verb: Accept}, Purpose: PurposeAcceptIn, Tunnel: b.Set.Tunnels[o.tunnel].ID,
			})
		}
	}
	return append(rules, Rule{
		Policy: PolicyMatch{Dir: PolicyIn}, Target: Target{Verb: Jump, Chain: chainBare}, Purpose: PurposeDispatch,
	})
}

// bare builds the tree that accepts on the policy match alone: what may carry
// none of our bits, or may have lost them to others' rules.
func (b *builder) bare() {
	var entries []entry
	claims := b.claims
	if !b.MarksWritten {
		claims = nil
		for _, i := range b.notable {
			claims = append(claims, b.claimsOf(i)...)
		}
	}
	for i := range claims {
		c := &claims[i]
		if c.pair.Family() != b.family || !c.policyOnly && !b.MarksWritten {
			continue
		}
		t := b.Set.Tunnels[c.tunnel]
		r := selectors(c.pair)
		r.Policy, r.Target = b.policyIn(t, b.family), Target{Verb: Accept}
		r.Purpose, r.Tunnel = PurposeAcceptIn, t.ID
		entries = append(entries, entry{key: c.pair.Remote, rules: []Rule{r}})
	}
	b.dispatchAnyOrder(Filter, chainBare, bySource, entries)
}

// strangers keeps out new flows that come in where peers are, unverified, and
// would go into a tunnel that takes any source: the kernel would encrypt them.
func (b *builder) strangers() []Rule {
	base := Rule{
		Mark: lacks(b.Config.Marks.Verified), Ct: CtMatch{State: CtRelated | CtEstablished, NotState: true},
		Target: Target{Verb: Return}, Purpose: PurposeStranger,
	}
	var rules []Rule
	add := func(tunnel int, r Rule) {
		t := b.Set.Tunnels[tunnel]
		for _, name := range uplinks(t, b.Host, b.Config.WAN) {
			r.In, r.Tunnel = name, t.ID
			rules = append(rules, r)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.devices)) {
		r := base
		r.Out = name
		add(b.devices[name], r)
	}
	for _, o := range b.overlays {
		r := base
		r.Out = o.devices[0]
		add(o.tunnel, r)
	}
	for _, i := range b.notable {
		for _, p := range b.Set.Tunnels[i].Pairs {
			if wide(p.Local) && p.IfID == 0 && p.Has(xfrm.Out) && p.Family() == b.family {
				r := base
				r.Dst, r.Policy = p.Remote, PolicyMatch{Dir: PolicyOut}
				add(i, r)
			}
		}
	}
	slices.SortFunc(rules, compareText(b.family))
	return slices.Compact(rules)
}

// wide reports whether a local selector is no site's own network: the halves of
// the whole do as well as the whole.
func wide(p netip.Prefix) bool { return p.Bits() < 8 }

// acceptOut lets traffic into tunnels: what will be encrypted, and what enters a
// tunnel device, where the first pass shows no policy yet.
func (b *builder) acceptOut() []Rule {
	rules := []Rule{{Policy: PolicyMatch{Dir: PolicyOut}, Target: Target{Verb: Accept}, Purpose: PurposeAcceptOut}}
	for _, name := range b.tunnelDevices() {
		rules = append(rules, Rule{Out: name, Target: Target{Verb: Accept}, Purpose: PurposeAcceptOut})
	}
	return rules
}

// tunnelDevices are all interfaces into which only tunnel traffic goes. A bridge
// or VRF above an overlay has other ports, so it is not among them.
func (b *builder) tunnelDevices() []string {
	names := slices.Collect(maps.Keys(b.devices))
	for _, o := range b.overlays {
		names = append(names, o.devices[0])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func compareText(family Family) func(x, y Rule) int {
	return func(x, y Rule) int {
		tx, ty := x.Text(family)+x.Tunnel, y.Text(family)+y.Tunnel
		switch {
		case tx < ty:
			return -1
		case tx > ty:
			return 1
		}
		return 0
	}
}
