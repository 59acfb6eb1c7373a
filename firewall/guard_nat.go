package firewall

import (
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

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
	same := b.byRemote.of(g.Remote.Masked())
	if len(same) == 1 {
		return []netip.Prefix{b.all[same[0].at].Local}
	}
	var locals []netip.Prefix
	seen := make(map[netip.Prefix]bool)
	for _, k := range same {
		if o := &b.all[k.at]; !o.Pierce && o.Tunnel == g.Tunnel && !seen[o.Local] {
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
	if g.Local.Bits() == 0 || b.isUp(&g) {
		return false
	}
	if alone, ok := b.alone[g.Local]; ok {
		return alone
	}
	alone := b.hasNoSource(g)
	b.alone[g.Local] = alone
	return alone
}

// isUp reports whether the tunnel of a guard has its states.
func (c *compiler) isUp(g *Guard) bool {
	if g.Source != LiveGuard {
		if c.there == nil {
			c.there = c.tunnelsOfOthers()
		}
		if !c.there[g.Tunnel] {
			return false
		}
	}
	return !c.down[g.Tunnel]
}

// tunnelsOfOthers are those of the set that a guard of no standing policy names.
func (c *compiler) tunnelsOfOthers() map[string]bool {
	there := make(map[string]bool)
	for i := range c.all {
		if g := &c.all[i]; g.Source != LiveGuard {
			there[g.Tunnel] = false
		}
	}
	for i := range c.Set.Tunnels {
		id := c.Set.Tunnels[i].ID
		if _, ok := there[id]; ok {
			there[id] = true
		}
	}
	return there
}

// hasNoSource reports whether nothing on this host has an address of the guard's
// local selector.
func (b *builder) hasNoSource(g Guard) bool {
	if slices.ContainsFunc(b.NATSources, g.Local.Overlaps) {
		return true
	}
	here := slices.ContainsFunc(b.Host.Addresses, func(a xfrm.Address) bool { return g.Local.Contains(a.Prefix.Addr()) })
	routed := slices.ContainsFunc(b.Host.Routes, func(r xfrm.Route) bool { return r.Dst.Bits() != 0 && r.Dst.Overlaps(g.Local) })
	return !here && !routed
}
