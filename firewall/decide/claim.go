package decide

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// claims adds the tunnel's pairs that verify its packets, and notes the parts of them
// that are ignored.
func (d *decider) claims(t *xfrm.Tunnel, r *firewall.TunnelReport) {
	tc, _ := d.config(t)
	from := len(d.facts.Claims)
	untaggable := d.untaggable(t, r)
	for _, p := range t.Pairs {
		p.Index = 0 // no rule of a claim depends on it
		if reason := guard.Unfit(p); reason != "" {
			d.uncertain[t.Reqid] = true
			d.ignore(t, p, reason)
			continue
		}
		if reason := guard.Unguarded(t, p, d.links); reason != "" {
			d.ignore(t, p, reason)
		}
		if reason := d.indistinct(t, p); reason != "" {
			d.uncertain[t.Reqid] = true
			d.ignore(t, p, reason)
			continue
		}
		if !p.Has(xfrm.In) && !p.Has(xfrm.Fwd) {
			// No policy restricts the protocol or the ports of inbound packets: the hosts
			// alone tell.
			p.Proto, p.LocalPort, p.RemotePort = 0, xfrm.PortMatch{}, xfrm.PortMatch{}
		}
		remotes := d.claimable(t, p, tc.Remote)
		if device, ok := d.unrouted(p, tc.Remote, remotes); ok {
			d.ignore(t, p, "no route leads into "+device+", so packets out of it are not verified: add the route, or name the networks behind it in remote:")
			p.Local, remotes = linkMulticast(p.Family()), []netip.Prefix{p.Remote}
		}
		if len(prefix.Intersect(p.Remote, tc.Remote)) == 0 {
			d.ignore(t, p, "the configuration's remote: leaves nothing of its remote selector")
		}
		for _, remote := range remotes {
			p.Remote = remote
			c := firewall.Claim{
				Tunnel: t.ID, Pair: p, In: d.inbound(t, p.Family()), Out: d.outbound(t, p.Family()),
				PolicyOnly: markTakesOurBits(p.Mark, d.links, d.Config.Marks), Untaggable: untaggable, Live: len(t.SAs) > 0,
			}
			if p.Proto == 0 || p.Proto == xfrm.TCP {
				c.MSS = d.segmentSize(t, tc.MSS, p.Family())
			}
			d.facts.Claims = append(d.facts.Claims, c)
		}
	}
	d.claimed[t.ID] = claimRange{from, len(d.facts.Claims)}
	if t.Comp && xfrm.Specified(t.Remote) && xfrm.Specified(t.Local) {
		d.facts.IPComp = append(d.facts.IPComp, firewall.IPCompCarrier{
			Tunnel: t.ID, Local: t.Local, Remote: t.Remote, In: d.inbound(t, xfrm.FamilyOf(t.Remote)), Untaggable: untaggable,
		})
	}
	for i := range d.facts.Overlays {
		if o := &d.facts.Overlays[i]; o.Tunnel == t.ID && !o.VTI {
			o.In, o.Untaggable = d.inbound(t, xfrm.FamilyOf(o.Remote)), untaggable
		}
	}
}

func (d *decider) ignore(t *xfrm.Tunnel, p xfrm.Pair, reason string) {
	d.facts.Ignored = append(d.facts.Ignored, xfrm.Ignored{
		Object: fmt.Sprintf("tunnel %s: %s to %s", t.ID, p.Local, p.Remote), Reason: reason,
	})
}

// distinct reports whether a match can compare the tunnel's outer addresses:
// xt_policy compares them in the inner packet's family.
func distinct(t *xfrm.Tunnel, inner xfrm.Family) bool {
	return t.Mode == xfrm.TunnelMode && !t.Comp &&
		t.Local.IsValid() && t.Remote.IsValid() && !t.Remote.IsUnspecified() &&
		t.Remote.Is4() == (inner == xfrm.IPv4)
}

// indistinct returns the reason why packets out of a tunnel's SAs can't be told from
// those of another tunnel's with the same reqid, or nothing. Two hosts in transport mode
// are told by their addresses while the reqid is theirs alone, or while each state has a
// selector, which the kernel asks for (net/xfrm/xfrm_policy.c, __xfrm_policy_check).
func (d *decider) indistinct(t *xfrm.Tunnel, p xfrm.Pair) string {
	alone := !d.shared[t.Reqid]
	if t.Mode == xfrm.TransportMode && !t.Comp && p.Remote.IsSingleIP() && p.Local.IsSingleIP() {
		selected := len(t.SAs) > 0 && !slices.ContainsFunc(t.SAs, func(sa xfrm.SA) bool {
			return sa.Inbound && (!sa.Selector.Src.IsValid() || sa.Selector.Src.Bits() == 0)
		})
		switch {
		case alone, selected:
			return ""
		case t.Reqid != 0:
			return fmt.Sprintf("several hosts share reqid %d in transport mode, and the states have no selector: give each a reqid of its own", t.Reqid)
		}
	}
	if t.Reqid == 0 && !distinct(t, p.Family()) {
		return "reqid 0 and no outer addresses to tell it by: give the states a reqid"
	}
	return ""
}

// inbound is the match for packets that came out of a tunnel's SAs. The outer
// addresses tell tunnels apart that share a reqid.
func (d *decider) inbound(t *xfrm.Tunnel, inner xfrm.Family) firewall.SAMatch {
	m := firewall.SAMatch{Proto: t.Proto, Reqid: t.Reqid}
	if (t.Reqid == 0 || d.shared[t.Reqid]) && distinct(t, inner) {
		m.Src, m.Dst = t.Remote, t.Local
	}
	return m
}

// outbound is the match for packets that go into a tunnel's SAs.
func (d *decider) outbound(t *xfrm.Tunnel, inner xfrm.Family) firewall.SAMatch {
	m := d.inbound(t, inner)
	m.Src, m.Dst = m.Dst, m.Src
	return m
}

// restriction adds the limits that the configuration sets for the tunnel.
func (d *decider) restriction(t *xfrm.Tunnel) {
	tc, _ := d.config(t)
	if tc.In == nil && tc.Out == nil && tc.Remote == nil {
		return
	}
	r := firewall.Restriction{Tunnel: t.ID, Name: t.ID, In: tc.In, Out: tc.Out, Remote: tc.Remote}
	if tc.Name != "" {
		r.Name = tc.Name
	}
	at := d.claimed[t.ID]
	for _, c := range d.facts.Claims[at.from:at.to] {
		r.Sources = append(r.Sources, firewall.RestrictedPrefix{Prefix: c.Pair.Remote, SA: c.In})
	}
	for _, p := range t.Pairs {
		if p.Has(xfrm.Out) && p.IfID == 0 {
			r.Destinations = append(r.Destinations, firewall.RestrictedPrefix{Prefix: p.Remote, SA: d.outbound(t, p.Family())})
		}
	}
	r.Sources, r.Destinations = once(r.Sources), once(r.Destinations)
	r.Overlays = slices.DeleteFunc(slices.Clone(d.facts.Overlays), func(o firewall.Overlay) bool { return o.Tunnel != t.ID })
	r.Into = d.into(t)
	d.untold(t, tc)
	d.facts.Restrictions = append(d.facts.Restrictions, r)
}

// once returns a list without the values that stand before: pairs of a tunnel can share
// a remote selector.
func once[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool {
		again := seen[v]
		seen[v] = true
		return again
	})
}

// claimable returns the parts of a pair's remote selector that its tunnel's packets may
// come from: within the cap, and where a pair for everything belongs to a device within
// the prefixes that are routed into it, or were, or into another device of its site,
// because its selectors say nothing then. Where no route says more, the cap stands alone.
func (d *decider) claimable(t *xfrm.Tunnel, p xfrm.Pair, limits []netip.Prefix) []netip.Prefix {
	remotes := prefix.Intersect(p.Remote, limits)
	links := d.links.LinksOf(p)
	if len(links) == 0 || !isWideSelector(p.Remote) {
		return remotes
	}
	routed := slices.Concat(d.links.RoutedInto(links, p.Family()), d.routedToSite(t, p.Family()), d.routedBefore(t))
	routed = slices.DeleteFunc(routed, func(r netip.Prefix) bool { return xfrm.FamilyOf(r.Addr()) != p.Family() })
	switch {
	case len(routed) == 0 && limits != nil:
		return remotes
	case len(routed) == 0:
		return nil
	}
	var parts []netip.Prefix
	for _, remote := range remotes {
		for _, part := range prefix.Intersect(remote, routed) {
			if !slices.Contains(parts, part) {
				parts = append(parts, part)
			}
		}
	}
	return parts
}

// unrouted names the device of a pair for everything without a claim, where no route and
// no cap says which networks are behind it.
func (d *decider) unrouted(p xfrm.Pair, limits, claimable []netip.Prefix) (string, bool) {
	if links := d.links.LinksOf(p); limits == nil && len(claimable) == 0 && len(links) > 0 {
		return links[0].Name, true
	}
	return "", false
}

// linkMulticast returns the addresses that no router passes on. Routing protocols find
// their neighbours by them, before there is a route.
func linkMulticast(f xfrm.Family) netip.Prefix {
	if f == xfrm.IPv4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 24)
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff, 0x02}), 16)
}
