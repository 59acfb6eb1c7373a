package layout

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Selectors returns a rule that matches a pair's traffic on its way in.
func Selectors(p xfrm.Pair) rules.Rule {
	r := rules.Rule{Src: p.Remote, Dst: p.Local, Proto: p.Proto}
	return withPorts(r, p, p.RemotePort, p.LocalPort)
}

// Inbound matches a guard's traffic from its remote end.
func Inbound(g *firewall.GuardFacts) rules.Rule {
	r := Selectors(g.Pair())
	r.Tunnel = g.Tunnel
	return r
}

// Outbound matches a guard's traffic towards its remote end.
func Outbound(g *firewall.GuardFacts) rules.Rule {
	p := g.Pair()
	r := withPorts(rules.Rule{Src: p.Local, Dst: p.Remote, Proto: p.Proto}, p, p.LocalPort, p.RemotePort)
	r.Tunnel = g.Tunnel
	return r
}

// Leaving is Outbound where packets have the marks that other programs give them.
func Leaving(g *firewall.GuardFacts) rules.Rule {
	r := Outbound(g)
	r.Mark = MarkOf(g)
	return r
}

// MarkOf matches the mark by which an exception's policy is found.
func MarkOf(g *firewall.GuardFacts) rules.MarkMatch {
	return rules.MarkMatch{Value: g.Mark.Value, Mask: g.Mark.Mask}
}

func withPorts(r rules.Rule, p xfrm.Pair, source, destination xfrm.PortMatch) rules.Rule {
	switch p.Proto {
	case xfrm.ICMP, xfrm.ICMPv6:
		if (p.Proto == xfrm.ICMP) != (p.Family() == xfrm.IPv4) {
			break // the other family's ICMP: a protocol without types here
		}
		// The kernel keeps type and code in place of ports, each byte-wide.
		if !p.LocalPort.Any() {
			r.ICMP = rules.ICMPMatch{Set: true, Type: uint8(p.LocalPort.Port)}
			if !p.RemotePort.Any() {
				r.ICMP.HasCode, r.ICMP.Code = true, uint8(p.RemotePort.Port)
			}
		}
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP:
		r.SPorts, r.DPorts = PortsOf(source), PortsOf(destination)
	}
	return r
}

// PortsOf returns the range of ports of a selector, zero for any.
func PortsOf(m xfrm.PortMatch) firewall.Ports {
	if m.Any() {
		return firewall.Ports{}
	}
	lo, hi, _ := m.Range()
	return firewall.Ports{Lo: lo, Hi: hi}
}

// PolicyIn and PolicyOut match packets that came out of an SA, or go into it.
func PolicyIn(m firewall.SAMatch) rules.PolicyMatch  { return policyMatch(rules.PolicyIn, m) }
func PolicyOut(m firewall.SAMatch) rules.PolicyMatch { return policyMatch(rules.PolicyOut, m) }

func policyMatch(dir rules.PolicyDir, m firewall.SAMatch) rules.PolicyMatch {
	p := rules.PolicyMatch{Dir: dir, Proto: m.Proto, Reqid: m.Reqid, HasReqid: true}
	if m.Src.IsValid() {
		p.TunnelSrc, p.TunnelDst = prefix.Single(m.Src), prefix.Single(m.Dst)
	}
	return p
}

// Carrier matches the packets that carry an overlay device's.
func Carrier(o *firewall.Overlay) rules.Rule {
	r := rules.Rule{Src: prefix.Single(o.Remote), Dst: prefix.Single(o.Local), Proto: o.Proto, Purpose: rules.PurposeDispatch, Tunnel: o.Tunnel}
	if o.Port != 0 {
		r.DPorts = firewall.Port(o.Port)
	}
	return r
}

// SetMark is the target that sets or clears bits.
func SetMark(value, mask uint32) rules.Target {
	return rules.Target{Verb: rules.SetMark, Value: value, Mask: mask}
}

// MarkVerified is the target that sets VERIFIED.
func (l *Layout) MarkVerified() rules.Target { return SetMark(l.Marks.Verified, l.Marks.Verified) }

// Has matches packets that carry all bits of mask, Lacks those without them.
func Has(mask uint32) rules.MarkMatch   { return rules.MarkMatch{Value: mask, Mask: mask} }
func Lacks(mask uint32) rules.MarkMatch { return rules.MarkMatch{Value: mask, Mask: mask, Not: true} }
