package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// builder collects the chains of one family.
type builder struct {
	*compiler
	family Family
	set    Ruleset
	// made are the shared chains that were built already.
	made map[string]bool
	// encaps is what encapPorts found, nil before it looked.
	encaps []netip.AddrPort
	// within is what guarding found, nil before it looked.
	within []netip.Prefix
	// clamped are the remote selectors whose connections' segments are kept small.
	clamped []netip.Prefix
	// beside are the only remote selectors that an exception's can matter to; nil is
	// all.
	beside *prefixSet
	// guardList is this family's guards; plain are those whose rules are kept, in
	// the order of all; nil where none are. touched are the remote selectors of those
	// whose rules are not as they were, near the local ones of exceptions.
	guardList
	plain         []*guardRules
	touched, near []netip.Prefix
	scratch       scratch
	// claimList is this family's claims; claimed are the remote selectors of those
	// that are not as they were.
	claimList
	touchedClaims []netip.Prefix
	// named are the shared chains' names, by local selector.
	named map[string]map[netip.Prefix]string
}

// sharedName names the chain of that root that a local selector's pairs share.
func (b *builder) sharedName(root string, local netip.Prefix) string {
	names := b.named[root]
	if names == nil {
		names = make(map[netip.Prefix]string)
		b.named[root] = names
	}
	name, ok := names[local]
	if !ok {
		name = stableName(root, local.String())
		names[local] = name
	}
	return name
}

func (b *builder) chain(table Table, name string, rules ...Rule) {
	b.set.Chains = append(b.set.Chains, Chain{Table: table, Name: name, Rules: RulesOf(rules...)})
}

func (b *builder) hook(table Table, from, to string) {
	b.set.Hooks = append(b.set.Hooks, Hook{Table: table, From: from, To: to})
}

// selectors returns a rule that matches a pair's traffic on its way in.
func selectors(p xfrm.Pair) Rule {
	r := Rule{Src: p.Remote, Dst: p.Local, Proto: p.Proto}
	return withPorts(r, p, p.RemotePort, p.LocalPort)
}

func withPorts(r Rule, p xfrm.Pair, source, destination xfrm.PortMatch) Rule {
	switch p.Proto {
	case xfrm.ICMP, xfrm.ICMPv6:
		if (p.Proto == xfrm.ICMP) != (p.Family() == xfrm.IPv4) {
			break // the other family's ICMP: a protocol without types here
		}
		// The kernel keeps type and code in place of ports, each byte-wide.
		if !p.LocalPort.Any() {
			r.ICMP = ICMPMatch{Set: true, Type: uint8(p.LocalPort.Port)}
			if !p.RemotePort.Any() {
				r.ICMP.HasCode, r.ICMP.Code = true, uint8(p.RemotePort.Port)
			}
		}
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP:
		r.SPorts, r.DPorts = portsOf(source), portsOf(destination)
	}
	return r
}

func portsOf(m xfrm.PortMatch) Ports {
	if m.Any() {
		return Ports{}
	}
	lo, hi, _ := m.Range()
	return Ports{lo, hi}
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return xfrm.IPv4
	}
	return xfrm.IPv6
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// onWAN repeats a rule for every configured outer interface, or leaves it
// without one. set puts the interface in its place.
func (b *builder) onWAN(r Rule, set func(*Rule, string)) []Rule {
	if len(b.Config.WAN) == 0 {
		return []Rule{r}
	}
	rules := make([]Rule, len(b.Config.WAN))
	for i, name := range b.Config.WAN {
		rules[i] = r
		set(&rules[i], name)
	}
	return rules
}

func inBy(r *Rule, name string)  { r.In = name }
func outBy(r *Rule, name string) { r.Out = name }

// setMark is the target that sets or clears bits.
func setMark(value, mask uint32) Target { return Target{Verb: SetMark, Value: value, Mask: mask} }

func (b *builder) markVerified() Target {
	return setMark(b.Config.Marks.Verified, b.Config.Marks.Verified)
}

// has matches packets that carry all bits of mask, lacks those without them.
func has(mask uint32) MarkMatch   { return MarkMatch{Value: mask, Mask: mask} }
func lacks(mask uint32) MarkMatch { return MarkMatch{Value: mask, Mask: mask, Not: true} }
