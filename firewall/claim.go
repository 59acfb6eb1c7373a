package firewall

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// claim is a pair of a tunnel that may be verified.
type claim struct {
	tunnel int
	pair   xfrm.Pair
	// policyOnly tells that packets of this pair may carry none of our bits.
	policyOnly bool
}

// claimsOf are the claims of one tunnel.
func (c *compiler) claimsOf(tunnel int) []claim { return claimsOf(c.claims, c.facts, tunnel) }

func claimsOf(claims []claim, facts []tunnelFacts, tunnel int) []claim {
	from := 0
	if tunnel > 0 {
		from = facts[tunnel-1].claimed
	}
	return claims[from:facts[tunnel].claimed]
}

// claim adds the tunnel's pairs to what may be verified.
func (c *compiler) claim(i int) {
	t := &c.Set.Tunnels[i]
	tc, _ := c.config(t)
	for _, p := range t.Pairs {
		if reason := unfit(p); reason != "" {
			c.uncertain[t.Reqid] = true
			c.ignore(*t, p, reason)
			continue
		}
		if t.Reqid == 0 && !c.distinct(*t, p.Family()) {
			c.uncertain[t.Reqid] = true
			c.ignore(*t, p, "reqid 0 and no outer addresses to tell it by: give the states a reqid")
			continue
		}
		remotes := within(p.Remote, tc.Remote)
		if len(remotes) == 0 {
			c.ignore(*t, p, "the configuration's remote: leaves nothing of its remote selector")
		}
		for _, remote := range remotes {
			p.Remote = remote
			c.claims = append(c.claims, claim{tunnel: i, pair: p, policyOnly: greedyPolicy(p, c.Host, c.Config.Marks)})
		}
	}
}

// unfit says why no rule can match a pair's traffic exactly, or nothing.
func unfit(p xfrm.Pair) string {
	for _, ports := range []xfrm.PortMatch{p.LocalPort, p.RemotePort} {
		if _, _, ok := ports.Range(); !ok {
			return fmt.Sprintf("port mask %s is no range, which iptables can't match", ports)
		}
		if !ports.Any() && !ported(p.Proto) {
			return fmt.Sprintf("iptables knows no ports of protocol %s", p.Proto)
		}
	}
	return ""
}

// ported reports whether rules can match a protocol's ports, or ICMP's types.
func ported(p xfrm.Proto) bool {
	switch p {
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP, xfrm.ICMP, xfrm.ICMPv6:
		return true
	}
	return false
}

func (c *compiler) ignore(t xfrm.Tunnel, p xfrm.Pair, reason string) {
	c.result.Ignored = append(c.result.Ignored, xfrm.Ignored{
		Object: fmt.Sprintf("tunnel %s: %s to %s", t.ID, p.Local, p.Remote), Reason: reason,
	})
}

// distinct reports whether the tunnel's outer addresses can be part of a policy
// match: xt_policy compares them in the inner packet's family.
func (c *compiler) distinct(t xfrm.Tunnel, inner Family) bool {
	return t.Mode == xfrm.TunnelMode && !t.Comp &&
		t.Local.IsValid() && t.Remote.IsValid() && !t.Remote.IsUnspecified() &&
		t.Remote.Is4() == (inner == xfrm.IPv4)
}

// policyIn is the match for packets that came out of a tunnel's states. Where
// several tunnels share a reqid, the outer addresses tell them apart.
func (c *compiler) policyIn(t xfrm.Tunnel, inner Family) PolicyMatch {
	m := PolicyMatch{Dir: PolicyIn, Proto: t.Proto, Reqid: t.Reqid, HasReqid: true}
	if (t.Reqid == 0 || c.shared[t.Reqid]) && c.distinct(t, inner) {
		m.TunnelSrc, m.TunnelDst = single(t.Remote), single(t.Local)
	}
	return m
}
