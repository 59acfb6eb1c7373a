package prove

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// spec is firewall.Judge over sets: the packets of each predicate, on one way. A test
// drives both over random packets.
type spec struct {
	*Space
	*firewall.Facts
	way firewall.Way
	// received are the ends of a packet as it arrives, routed those behind DNAT.
	received, routed ends
	// guards and claims are those of the family.
	guards []*firewall.GuardFacts
	claims []*firewall.Claim
	// onHost are the packets on the loopback interface, decrypted those with an SA on
	// their path, exact those of ICMP of the family.
	onHost, decrypted, isICMP Set
	// evidence are the packets that came out of a tunnel, by case.
	evidence map[firewall.Case]Set
	verified Set
}

// ends are the places of a packet's source and destination.
type ends struct{ src, dst, sport, dport field }

func newSpec(s *Space, f *firewall.Facts, way firewall.Way) *spec {
	q := &spec{Space: s, Facts: f, way: way, evidence: make(map[firewall.Case]Set), verified: None}
	q.received = ends{s.src, s.dst, s.sport, s.dport}
	q.routed = ends{s.src, s.routedDst, s.sport, s.routedDPort}
	for i := range f.Guards {
		if g := &f.Guards[i]; g.Family() == s.Family {
			q.guards = append(q.guards, g)
		}
	}
	for i := range f.Claims {
		if c := &f.Claims[i]; c.Pair.Family() == s.Family {
			q.claims = append(q.claims, c)
		}
	}
	q.onHost = s.Or(q.cameInBy("lo"), q.goesOutBy("lo"))
	q.decrypted, q.isICMP = None, s.number(s.proto, uint64(s.icmp()))
	if way != firewall.FromHost {
		q.decrypted = s.Bit(s.path.present)
		q.findEvidence()
	}
	return q
}

// cameInBy and goesOutBy are the packets with an interface; an empty name is none's.
func (q *spec) cameInBy(name string) Set {
	if q.way == firewall.FromHost {
		return None
	}
	return q.device(q.Space.in, name)
}

func (q *spec) goesOutBy(name string) Set {
	if q.way == firewall.ToHost {
		return None
	}
	return q.device(q.Space.out, name)
}

func (q *spec) outAny(names []string) Set {
	sets := make([]Set, len(names))
	for i, name := range names {
		sets[i] = q.goesOutBy(name)
	}
	return q.Union(sets...)
}

func (q *spec) inAny(names []string) Set {
	sets := make([]Set, len(names))
	for i, name := range names {
		sets[i] = q.cameInBy(name)
	}
	return q.Union(sets...)
}

func (q *spec) single(f field, a netip.Addr) Set {
	if !a.IsValid() {
		return None
	}
	return q.within(f, prefix.Single(a))
}

// fits returns the packets with a protocol and ports in a pair's selectors. Local is the
// place of the local port, remote that of the other.
func (q *spec) fits(c *condition, p xfrm.Pair, local, remote field) {
	if p.Proto != 0 {
		c.number(q.proto, uint64(p.Proto))
	}
	switch p.Proto {
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP:
		c.masked(local, p.LocalPort)
		c.masked(remote, p.RemotePort)
	case xfrm.ICMP, xfrm.ICMPv6:
		if p.Proto == q.icmp() && !p.LocalPort.Any() {
			c.masked(q.icmpType, p.LocalPort)
			c.masked(q.icmpCode, p.RemotePort)
		}
	}
}

// goesIn and comesFrom return the packets with ends in a pair's selectors, towards the
// remote or from there.
func (q *spec) goesIn(p xfrm.Pair, e ends) Set {
	c := q.condition()
	c.within(e.src, p.Local)
	c.within(e.dst, p.Remote)
	q.fits(c, p, e.sport, e.dport)
	return c.set()
}

func (q *spec) comesFrom(p xfrm.Pair, e ends) Set {
	c := q.condition()
	c.within(e.src, p.Remote)
	c.within(e.dst, p.Local)
	q.fits(c, p, e.dport, e.sport)
	return c.set()
}

// passes returns the packets with an SA of a match.
func (q *spec) passes(on *sa, m firewall.SAMatch) Set {
	c := q.condition()
	c.bit(on.present)
	c.number(on.reqid, uint64(m.Reqid))
	c.number(on.proto, uint64(m.Proto))
	if m.Src.IsValid() {
		c.bit(on.tunnel)
		c.within(on.source, prefix.Single(prefix.InFamily(m.Src, q.Family)))
		c.within(on.destine, prefix.Single(prefix.InFamily(m.Dst, q.Family)))
	}
	return c.set()
}

func (q *spec) cameOutOf(m firewall.SAMatch) Set { return q.passes(&q.path, m) }

// goesInto returns the packets that will go through an SA of a match.
func (q *spec) goesInto(m firewall.SAMatch) Set {
	if q.way == firewall.ToHost {
		return None
	}
	return q.passes(&q.ahead, m)
}

// encrypted are the packets that will go through an SA.
func (q *spec) encrypted() Set {
	if q.way == firewall.ToHost {
		return None
	}
	return q.Bit(q.ahead.present)
}

// findEvidence divides the packets that came out of a tunnel by case.
func (q *spec) findEvidence() {
	inside := q.Minus(q.decrypted, q.onHost)
	note := func(c firewall.Case, set Set) {
		set = q.Minus(set, q.verified)
		q.evidence[c] = q.Or(q.evidenceOf(c), set)
		q.verified = q.Or(q.verified, set)
	}
	tagged := q.Bit(q.tagged)
	bare := q.Minus(q.decrypted.Not(), q.onHost)
	for i := range q.Overlays {
		o := &q.Overlays[i]
		carried := q.Bit(q.Space.verified)
		if o.VTI {
			carried = q.Or(carried, tagged)
		}
		about := q.And(q.And(q.isICMP, q.Bit(q.related)), q.Or(q.sends(o, q.origSrc), q.sends(o, q.replySrc)))
		note(firewall.Case4, q.And(q.And(bare, q.inAny(o.Devices)), q.And(carried, q.Or(q.sends(o, q.src), about))))
	}
	var policyOnly, trusted, untaggable []Set
	for _, c := range q.claims {
		set := q.And(q.cameOutOf(c.In), q.comesFrom(c.Pair, q.received))
		switch {
		case c.PolicyOnly:
			policyOnly = append(policyOnly, set)
		case c.Untaggable:
			untaggable = append(untaggable, set)
			trusted = append(trusted, set)
		default:
			trusted = append(trusted, set)
		}
	}
	note(firewall.Case2, q.And(inside, q.Union(policyOnly...)))
	rest := q.Minus(inside, q.verified)
	for i := range q.Overlays {
		o := &q.Overlays[i]
		is := q.And(rest, q.carries(o))
		rest = q.Minus(rest, is)
		if o.Below == nil {
			q.byTag(note, q.And(is, q.cameOutOf(o.In)), truthOf(o.Untaggable))
		}
	}
	rest = q.Minus(rest, q.openCarriers())
	all := q.And(rest, q.Union(trusted...))
	note(firewall.Case1, q.And(all, tagged))
	var comp []Set
	for i := range q.IPComp {
		c := &q.IPComp[i]
		set := q.And(q.And(q.single(q.src, c.Remote), q.single(q.dst, c.Local)), q.And(q.number(q.proto, uint64(ipInIP(q.Family))), q.cameOutOf(c.In)))
		if c.Enforced {
			set = q.And(set, tagged)
		}
		comp = append(comp, set)
	}
	note(firewall.Case1c, q.And(rest, q.Union(comp...)))
	note(firewall.Case2, q.And(all, q.Union(untaggable...)))
	note(firewall.Case3, all)
	note(firewall.Case1b, q.And(rest, q.errorsFromInside()))
}

func (q *spec) byTag(note func(firewall.Case, Set), set, untaggable Set) {
	note(firewall.Case1, q.And(set, q.Bit(q.tagged)))
	note(firewall.Case2, q.And(set, untaggable))
	note(firewall.Case3, set)
}

func ipInIP(f xfrm.Family) xfrm.Proto {
	if f == xfrm.IPv6 {
		return xfrm.IPv6in
	}
	return xfrm.IPIP
}

func (q *spec) evidenceOf(c firewall.Case) Set {
	if set, ok := q.evidence[c]; ok {
		return set
	}
	return None
}

// carries returns the packets that carry an overlay device's.
func (q *spec) carries(o *firewall.Overlay) Set {
	if o.VTI {
		return None
	}
	set := q.And(q.And(q.single(q.src, o.Remote), q.single(q.dst, o.Local)), q.number(q.proto, uint64(o.Proto)))
	if o.Port != 0 {
		set = q.And(set, q.number(q.dport, uint64(o.Port)))
	}
	return set
}

// sends returns the packets with an address in a field that may come out of an
// overlay's device.
func (q *spec) sends(o *firewall.Overlay, f field) Set {
	if o.Sources == nil {
		return All
	}
	return q.withinAny(f, o.Sources)
}

// openCarriers returns the packets to devices that take carriers from any address.
func (q *spec) openCarriers() Set {
	var sets []Set
	for i := range q.OpenDevices {
		o := &q.OpenDevices[i]
		set := q.number(q.proto, uint64(o.Proto))
		if o.Port != 0 {
			set = q.And(set, q.number(q.dport, uint64(o.Port)))
		}
		if o.Local.IsValid() {
			set = q.And(set, q.single(q.dst, o.Local))
		} else {
			set = q.And(set, q.Bit(q.dstLocal))
		}
		sets = append(sets, set)
	}
	return q.Union(sets...)
}

// carriers returns the packets that carry any overlay device's.
func (q *spec) carriers() Set {
	sets := []Set{q.openCarriers()}
	for i := range q.Overlays {
		sets = append(sets, q.carries(&q.Overlays[i]))
	}
	return q.Union(sets...)
}

// errorsFromInside: see firewall.Judge, case 1b.
func (q *spec) errorsFromInside() Set {
	var sets []Set
	for _, c := range q.claims {
		if c.PolicyOnly {
			continue
		}
		set := q.And(q.cameOutOf(c.In), q.And(q.within(q.dst, c.Pair.Local), q.Or(q.within(q.origSrc, c.Pair.Remote), q.within(q.replySrc, c.Pair.Remote))))
		if c.Enforced {
			set = q.And(set, q.Bit(q.tagged))
		}
		sets = append(sets, set)
	}
	return q.Minus(q.And(q.And(q.isICMP, q.Bit(q.related)), q.Union(sets...)), q.ownedByAnother())
}

// ownedByAnother returns the packets with a source that a live tunnel owns, unless they
// came out of that tunnel. The most specific claim decides.
func (q *spec) ownedByAnother() Set {
	var live []*firewall.Claim
	for _, c := range q.claims {
		if c.Live && !c.PolicyOnly {
			live = append(live, c)
		}
	}
	slices.SortStableFunc(live, func(a, b *firewall.Claim) int {
		if n := b.Pair.Remote.Bits() - a.Pair.Remote.Bits(); n != 0 {
			return n
		}
		return a.Pair.Remote.Addr().Compare(b.Pair.Remote.Addr())
	})
	owned, decided := None, None
	for len(live) > 0 {
		bits := live[0].Pair.Remote.Bits()
		var foreign, sources []Set
		for len(live) > 0 && live[0].Pair.Remote.Bits() == bits {
			remote := live[0].Pair.Remote
			var own []Set
			for len(live) > 0 && live[0].Pair.Remote == remote {
				own = append(own, q.cameOutOf(live[0].In))
				live = live[1:]
			}
			source := q.within(q.src, remote)
			sources = append(sources, source)
			foreign = append(foreign, q.Minus(source, q.Union(own...)))
		}
		owned = q.Or(owned, q.Minus(q.Union(foreign...), decided))
		decided = q.Or(decided, q.Union(sources...))
	}
	return owned
}
