package firewall

import (
	"net/netip"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

const (
	chainRestrictIn  = "XFRMFW-RIN"
	chainRestrictOut = "XFRMFW-ROUT"
	// chainService, a letter and the tunnel's ID name a restricted tunnel's chains.
	chainService  = "XFRMFW-SVC-"
	chainLockdown = "XFRMFW-LOCKDOWN"
)

// restrictions returns the rules that lead to the restricted tunnels' chains,
// for traffic out of tunnels and into them. They stand in filter, after DNAT,
// and only ever take away: what they let through is accepted further on, so
// that a packet from one restricted tunnel into another obeys both. Two chains
// a tunnel are needed, as the in and out policy matches share only FORWARD.
func (b *builder) restrictions() (in, out []Rule) {
	var inTree, outTree []entry
	for _, i := range b.notable {
		t := &b.Set.Tunnels[i]
		tc, _ := b.config(t)
		if tc.In != nil {
			name := serviceChain("I", t.ID)
			inTree = append(inTree, b.restrictedIn(i, name)...)
			in = append(in, b.fromOverlay(i, name)...)
			b.services(name, b.carriers(i, true), tc.In, append(b.loggedAs("in", i), Rule{Target: Target{Verb: Drop}}), t.ID)
		}
		if tc.Remote != nil {
			// What the peer claims beyond the cap would draw traffic to it.
			name := serviceChain("C", t.ID)
			outTree = append(outTree, b.restrictedOut(i, name)...)
			out = append(out, b.intoDevice(i, name)...)
			b.withinCap(name, tc.Remote, b.loggedAs("remote", i), t.ID)
		}
		if tc.Out != nil {
			name := serviceChain("O", t.ID)
			outTree = append(outTree, b.restrictedOut(i, name)...)
			out = append(out, b.intoDevice(i, name)...)
			b.services(name, b.carriers(i, false), tc.Out, append(b.loggedAs("out", i), Rule{Target: Target{Verb: Reject}}), t.ID)
		}
	}
	b.dispatch(Filter, chainRestrictIn, bySource, inTree)
	b.dispatch(Filter, chainRestrictOut, byDestination, outTree)
	in = append(in, Rule{
		Policy: PolicyMatch{Dir: PolicyIn}, Target: Target{Verb: Jump, Chain: chainRestrictIn}, Purpose: PurposeDispatch,
	})
	out = append(out, Rule{
		Policy: PolicyMatch{Dir: PolicyOut}, Target: Target{Verb: Jump, Chain: chainRestrictOut}, Purpose: PurposeDispatch,
	})
	return in, out
}

// serviceChain names a chain of a tunnel, so that no other tunnel's coming or going
// renames it. The ID's first letter would be one too many for a name.
func serviceChain(letter, tunnel string) string {
	return chainService + letter + "-" + strings.TrimPrefix(tunnel, "t")
}

// services builds a tunnel's chain: carriers, replies, the services, and the end.
func (b *builder) services(name string, carriers []Rule, list []Service, end []Rule, tunnel string) {
	rules := append(carriers, Rule{Ct: CtMatch{State: CtRelated | CtEstablished}, Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: tunnel})
	for _, s := range list {
		r := b.service(s)
		r.Target, r.Purpose, r.Tunnel = Target{Verb: Return}, PurposeService, tunnel
		rules = append(rules, r)
	}
	last := &end[len(end)-1]
	last.Purpose, last.Tunnel = PurposeRestricted, tunnel
	b.chain(Filter, name, append(rules, end...)...)
}

// withinCap builds the chain that keeps what goes into a tunnel within its cap.
func (b *builder) withinCap(name string, limits []netip.Prefix, log []Rule, tunnel string) {
	var rules []Rule
	for _, p := range limits {
		if familyOf(p.Addr()) == b.family {
			rules = append(rules, Rule{Dst: p, Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: tunnel})
		}
	}
	rules = append(rules, log...)
	b.chain(Filter, name, append(rules, Rule{Target: Target{Verb: Reject}, Purpose: PurposeRestricted, Tunnel: tunnel})...)
}

// carriers pass the packets that carry an overlay device's: it is what they
// carry that is restricted.
func (b *builder) carriers(i int, inbound bool) []Rule {
	var rules []Rule
	for _, o := range b.overlays {
		if o.tunnel != i || o.vti || familyOf(o.remote) != b.family {
			continue
		}
		r := Rule{Src: single(o.remote), Dst: single(o.local), Proto: o.proto, Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: b.Set.Tunnels[i].ID}
		if o.port != 0 {
			r.DPorts = Port(o.port)
		}
		if !inbound {
			r.Src, r.Dst = r.Dst, r.Src
		}
		rules = append(rules, r)
	}
	return rules
}

// service matches a service in this family.
func (b *builder) service(s Service) Rule {
	if s.Proto == xfrm.ICMP {
		s.Proto = b.icmp()
	}
	return Rule{Proto: s.Proto, DPorts: s.Ports}
}

// restrictedIn leads what came out of a tunnel to its chain. Any packet of the
// tunnel that is let in is verified, so its source is in the tree; errors from
// routers inside are not, and belong to flows that were allowed.
func (b *builder) restrictedIn(i int, chain string) []entry {
	t := b.Set.Tunnels[i]
	var entries []entry
	for _, c := range b.claimsOf(i) {
		if c.pair.Family() == b.family {
			entries = append(entries, entry{key: c.pair.Remote, rules: []Rule{{
				Src: c.pair.Remote, Policy: b.policyIn(t, b.family),
				Target: Target{Verb: Jump, Chain: chain}, Purpose: PurposeDispatch, Tunnel: t.ID,
			}}})
		}
	}
	return entries
}

// restrictedOut leads what goes into a tunnel to its chain.
func (b *builder) restrictedOut(i int, chain string) []entry {
	t := b.Set.Tunnels[i]
	var entries []entry
	for _, p := range t.Pairs {
		if p.Has(xfrm.Out) && p.Family() == b.family && p.IfID == 0 {
			entries = append(entries, entry{key: p.Remote, rules: []Rule{{
				Dst: p.Remote, Policy: b.policyOut(t, b.family),
				Target: Target{Verb: Jump, Chain: chain}, Purpose: PurposeDispatch, Tunnel: t.ID,
			}}})
		}
	}
	return entries
}

// policyOut is the match for packets that go into a tunnel's states.
func (c *compiler) policyOut(t xfrm.Tunnel, inner Family) PolicyMatch {
	m := PolicyMatch{Dir: PolicyOut, Proto: t.Proto, Reqid: t.Reqid, HasReqid: true}
	if (t.Reqid == 0 || c.shared[t.Reqid]) && c.distinct(t, inner) {
		m.TunnelSrc, m.TunnelDst = single(t.Local), single(t.Remote)
	}
	return m
}

// fromOverlay leads what a tunnel carries inside a device's packets to the
// tunnel's chain. The carrier itself is let in by its own rule.
func (b *builder) fromOverlay(i int, chain string) []Rule {
	var rules []Rule
	for _, o := range b.overlays {
		if o.tunnel != i {
			continue
		}
		for _, name := range o.devices {
			rules = append(rules, Rule{
				In: name, Mark: has(b.Config.Marks.Verified),
				Target: Target{Verb: Jump, Chain: chain}, Purpose: PurposeDispatch, Tunnel: b.Set.Tunnels[i].ID,
			})
		}
	}
	return rules
}

// intoDevice leads what goes into a tunnel's own device to the tunnel's chain.
func (b *builder) intoDevice(i int, chain string) []Rule {
	var rules []Rule
	for _, name := range b.tunnelDevices() {
		if b.deviceTunnel(name) == i {
			rules = append(rules, Rule{
				Out: name, Target: Target{Verb: Jump, Chain: chain}, Purpose: PurposeDispatch, Tunnel: b.Set.Tunnels[i].ID,
			})
		}
	}
	return rules
}

// deviceTunnel is the index of the tunnel whose traffic goes into a device.
func (b *builder) deviceTunnel(name string) int {
	if i, ok := b.devices[name]; ok {
		return i
	}
	for _, o := range b.overlays {
		if o.devices[0] == name {
			return o.tunnel
		}
	}
	return -1
}

// lockdown blocks what else comes in by the WAN interfaces. What is verified
// gets here only where the verdict on it is another firewall's.
func (b *builder) lockdown() []Rule {
	if b.Config.Lockdown == nil {
		return nil
	}
	accept := func(r Rule) Rule {
		r.Target, r.Purpose = Target{Verb: Accept}, PurposeService
		return r
	}
	rules := []Rule{
		{Mark: has(b.Config.Marks.Verified), Policy: PolicyMatch{Dir: PolicyIn}, Target: Target{Verb: Return}, Purpose: PurposeDone},
		accept(Rule{Ct: CtMatch{State: CtRelated | CtEstablished}}),
	}
	if b.family == xfrm.IPv6 {
		for _, kind := range []uint8{133, 134, 135, 136} {
			rules = append(rules, accept(Rule{Proto: xfrm.ICMPv6, ICMP: ICMPMatch{Set: true, Type: kind}}))
		}
		rules = append(rules, accept(Rule{Proto: xfrm.UDP, SPorts: Port(547), DPorts: Port(546), DstType: Local}))
	} else {
		rules = append(rules, accept(Rule{Proto: xfrm.UDP, SPorts: Port(67), DPorts: Port(68)}))
	}
	for _, s := range b.Config.Lockdown.Services {
		r := accept(b.service(s))
		r.DstType = Local
		rules = append(rules, r)
	}
	rules = append(rules, b.logged(PurposeLockdown)...)
	b.chain(Filter, chainLockdown, append(rules, Rule{Target: Target{Verb: Drop}, Purpose: PurposeLockdown})...)
	return b.onWAN(Rule{Target: Target{Verb: Goto, Chain: chainLockdown}, Purpose: PurposeDispatch}, inBy)
}
