package firewall

import "github.com/xfrmfw/xfrmfw/xfrm"

// filter lays out the accepts. It decides nothing: mangle has classified.
func (l *layout) filter() {
	in, out := l.open(inBy, true), l.open(outBy, false)
	out = append(out, Rule{Out: "lo", Target: Target{Verb: Return}, Purpose: PurposeExempt})
	fwd, refuseOwn := l.refuse()
	out = append(out, refuseOwn...)

	restrictIn, restrictOut := l.restrictions()
	in = append(in, restrictIn...)
	fwd = append(append(fwd, restrictIn...), restrictOut...)
	out = append(out, restrictOut...)
	if !l.MarkOnly {
		accept := l.acceptIn()
		l.acceptByPolicy()
		in = append(in, accept...)
		if l.PacketOffload {
			fwd = append(fwd, Rule{Mark: has(l.Marks.Verified), Target: Target{Verb: Accept}, Purpose: PurposeAcceptIn})
		}
		fwd = append(fwd, accept...)
	}
	fwd = append(fwd, l.strangerRules()...)
	fwd = append(fwd, l.acceptOut()...)
	out = append(out, l.acceptOut()...)
	if toLockdown := l.lockdown(); toLockdown != nil {
		in, fwd = append(in, toLockdown...), append(fwd, toLockdown...)
	}
	l.chain(Filter, chainIn, in...)
	l.chain(Filter, chainFwd, fwd...)
	l.chain(Filter, chainOut, out...)
	l.hook(Filter, "INPUT", chainIn)
	l.hook(Filter, "FORWARD", chainFwd)
	l.hook(Filter, "OUTPUT", chainOut)
}

// open lets IKE, ESP and AH in or out, tunnel up or not: the first road warrior must
// get in. The local port decides, never the peer's.
func (l *layout) open(by func(*Rule, string), inbound bool) []Rule {
	accept := Target{Verb: Accept}
	rules := []Rule{
		{Proto: xfrm.ESP, Target: accept, Purpose: PurposeOpen},
		{Proto: xfrm.AH, Target: accept, Purpose: PurposeOpen},
	}
	for _, port := range []uint16{IKE, NATT} {
		r := Rule{Proto: xfrm.UDP, Target: accept, Purpose: PurposeOpen}
		if inbound {
			r.DPorts, r.DstType = Port(port), Local
		} else {
			r.SPorts, r.SrcType = Port(port), Local
		}
		rules = append(rules, r)
	}
	for _, at := range l.encapPorts() {
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
		all = append(all, l.onWAN(r, by)...)
	}
	return all
}

// acceptIn lets verified traffic in: by the policy match beside the mark, and by the
// mark alone on overlay devices, where the kernel has dropped the policy.
func (l *layout) acceptIn() []Rule {
	rules := []Rule{{
		Mark: has(l.Marks.Verified), Policy: PolicyMatch{Dir: PolicyIn},
		Target: Target{Verb: Accept}, Purpose: PurposeAcceptIn,
	}}
	for i := range l.Overlays {
		o := &l.Overlays[i]
		for _, name := range o.Devices {
			rules = append(rules, Rule{
				In: name, Mark: has(l.Marks.Verified), Target: Target{Verb: Accept}, Purpose: PurposeAcceptIn, Tunnel: o.Tunnel,
			})
		}
	}
	return append(rules, Rule{
		Policy: PolicyMatch{Dir: PolicyIn}, Target: Target{Verb: Jump, Chain: chainBare}, Purpose: PurposeDispatch,
	})
}

// acceptByPolicy lays out the tree that accepts on the policy match alone: packets
// that must carry none of our bits, or may have lost them to rules of others.
func (l *layout) acceptByPolicy() {
	var entries []TreeEntry
	for _, c := range l.claims {
		if c.PolicyOnly || l.MarksWritten {
			r := selectors(c.Pair)
			r.Policy, r.Target = policyIn(c.In), Target{Verb: Accept}
			r.Purpose, r.Tunnel = PurposeAcceptIn, c.Tunnel
			entries = append(entries, entry(c.Pair.Remote, r))
		}
	}
	l.tree(TreeSpec{Table: Filter, Root: chainBare, By: BySource, AnyOrder: true}, entries)
}

// acceptOut lets traffic into tunnels: packets that will be encrypted, and those that
// enter a tunnel device, where the first pass shows no policy yet.
func (l *layout) acceptOut() []Rule {
	rules := []Rule{{Policy: PolicyMatch{Dir: PolicyOut}, Target: Target{Verb: Accept}, Purpose: PurposeAcceptOut}}
	for _, d := range l.Devices {
		rules = append(rules, Rule{Out: d.Name, Target: Target{Verb: Accept}, Purpose: PurposeAcceptOut})
	}
	return rules
}
