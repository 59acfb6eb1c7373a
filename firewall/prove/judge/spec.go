package judge

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Packets is firewall.Judge over sets: the packets of each predicate, on one way. A test
// drives both over random packets.
type Packets struct {
	*space.Space
	*firewall.Facts
	// Way is that of all packets.
	Way firewall.Way
	// received are the ends of a packet as it arrives, routed those behind DNAT.
	received, routed ends
	// guards and claims are those of the family.
	guards []*firewall.GuardFacts
	claims []*firewall.Claim
	// onHost are the packets on the loopback interface, Decrypted those with an SA on
	// their path, isICMP those of ICMP of the family.
	onHost, Decrypted, isICMP space.Set
	// evidence are the packets that came out of a tunnel, by case, and Verified those of
	// all cases.
	evidence map[firewall.Case]space.Set
	Verified space.Set
}

// ends are the places of a packet's source and destination.
type ends struct {
	src, dst     space.Classed
	sport, dport space.Field
}

// New returns the packets of a space on one way, by the facts of the host.
func New(s *space.Space, f *firewall.Facts, way firewall.Way) *Packets {
	q := &Packets{Space: s, Facts: f, Way: way, evidence: make(map[firewall.Case]space.Set), Verified: space.None}
	q.received = ends{s.Src, s.Dst, s.SPort, s.DPort}
	q.routed = ends{s.Src, s.RoutedDst, s.SPort, s.RoutedDPort}
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
	q.onHost = s.Or(q.cameInBy("lo"), q.GoesOutBy("lo"))
	q.Decrypted, q.isICMP = space.None, s.Number(s.Proto, uint64(s.ICMP()))
	if way != firewall.FromHost {
		q.Decrypted = s.Bit(s.Path.Present)
		q.findEvidence()
	}
	return q
}

// cameInBy are the packets in by an interface. An empty name is no interface's.
func (q *Packets) cameInBy(name string) space.Set {
	if q.Way == firewall.FromHost {
		return space.None
	}
	return q.Device(q.Space.In, name)
}

// GoesOutBy are the packets out by an interface. An empty name is no interface's.
func (q *Packets) GoesOutBy(name string) space.Set {
	if q.Way == firewall.ToHost {
		return space.None
	}
	return q.Device(q.Space.Out, name)
}

func (q *Packets) outAny(names []string) space.Set {
	sets := make([]space.Set, len(names))
	for i, name := range names {
		sets[i] = q.GoesOutBy(name)
	}
	return q.Union(sets...)
}

func (q *Packets) inAny(names []string) space.Set {
	sets := make([]space.Set, len(names))
	for i, name := range names {
		sets[i] = q.cameInBy(name)
	}
	return q.Union(sets...)
}

func (q *Packets) single(f space.Classed, a netip.Addr) space.Set {
	if !a.IsValid() {
		return space.None
	}
	return q.LiesIn(f, prefix.Single(a))
}

// fits returns the packets with a protocol and ports in a pair's selectors. Local is the
// place of the local port, remote that of the other.
func (q *Packets) fits(c *space.Condition, p xfrm.Pair, local, remote space.Field) {
	if p.Proto != 0 {
		c.Number(q.Proto, uint64(p.Proto))
	}
	switch p.Proto {
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP:
		c.Masked(local, p.LocalPort)
		c.Masked(remote, p.RemotePort)
	case xfrm.ICMP, xfrm.ICMPv6:
		if p.Proto == q.ICMP() && !p.LocalPort.Any() {
			c.Masked(q.ICMPType, p.LocalPort)
			c.Masked(q.ICMPCode, p.RemotePort)
		}
	}
}

// goesIn and comesFrom return the packets with ends in a pair's selectors, towards the
// remote or from there.
func (q *Packets) goesIn(p xfrm.Pair, e ends) space.Set {
	c := q.Condition()
	c.LiesIn(e.src, p.Local)
	c.LiesIn(e.dst, p.Remote)
	q.fits(c, p, e.sport, e.dport)
	return c.Set()
}

func (q *Packets) comesFrom(p xfrm.Pair, e ends) space.Set {
	c := q.Condition()
	c.LiesIn(e.src, p.Remote)
	c.LiesIn(e.dst, p.Local)
	q.fits(c, p, e.dport, e.sport)
	return c.Set()
}

// passes returns the packets with an SA of a match.
func (q *Packets) passes(on *space.SA, m firewall.SAMatch) space.Set {
	c := q.Condition()
	c.Bit(on.Present)
	c.Reqid(on, m.Reqid)
	c.Number(on.Proto, uint64(m.Proto))
	if m.Src.IsValid() {
		c.Bit(on.Tunnel)
		c.LiesIn(on.Source, prefix.Single(prefix.InFamily(m.Src, q.Family)))
		c.LiesIn(on.Destination, prefix.Single(prefix.InFamily(m.Dst, q.Family)))
	}
	return c.Set()
}

func (q *Packets) cameOutOf(m firewall.SAMatch) space.Set { return q.passes(&q.Path, m) }

// GoesInto returns the packets that will go through an SA of a match.
func (q *Packets) GoesInto(m firewall.SAMatch) space.Set {
	if q.Way == firewall.ToHost {
		return space.None
	}
	return q.passes(&q.Ahead, m)
}

// Encrypted are the packets that will go through an SA.
func (q *Packets) Encrypted() space.Set {
	if q.Way == firewall.ToHost {
		return space.None
	}
	return q.Bit(q.Ahead.Present)
}

// findEvidence divides the packets that came out of a tunnel by case.
func (q *Packets) findEvidence() {
	inside := q.Minus(q.Decrypted, q.onHost)
	note := func(c firewall.Case, set space.Set) {
		set = q.Minus(set, q.Verified)
		q.evidence[c] = q.Or(q.EvidenceOf(c), set)
		q.Verified = q.Or(q.Verified, set)
	}
	tagged := q.Bit(q.Tagged)
	bare := q.Minus(q.Decrypted.Not(), q.onHost)
	for i := range q.Overlays {
		o := &q.Overlays[i]
		carried := q.Bit(q.Space.Verified)
		if o.VTI {
			carried = q.Or(carried, tagged)
		}
		about := q.And(q.And(q.isICMP, q.Bit(q.Related)), q.Or(q.sends(o, q.OrigSrc), q.sends(o, q.ReplySrc)))
		note(firewall.Case4, q.And(q.And(bare, q.inAny(o.Devices)), q.And(carried, q.Or(q.sends(o, q.Src), about))))
	}
	var policyOnly, trusted, untaggable []space.Set
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
	rest := q.Minus(inside, q.Verified)
	for i := range q.Overlays {
		o := &q.Overlays[i]
		is := q.And(rest, q.carries(o))
		rest = q.Minus(rest, is)
		if o.Below == nil {
			q.byTag(note, q.And(is, q.cameOutOf(o.In)), space.TruthOf(o.Untaggable))
		}
	}
	rest = q.Minus(rest, q.openCarriers())
	all := q.And(rest, q.Union(trusted...))
	note(firewall.Case1, q.And(all, tagged))
	var comp []space.Set
	for i := range q.IPComp {
		c := &q.IPComp[i]
		set := q.And(q.And(q.single(q.Src, c.Remote), q.single(q.Dst, c.Local)), q.And(q.Number(q.Proto, uint64(ipInIP(q.Family))), q.cameOutOf(c.In)))
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

func (q *Packets) byTag(note func(firewall.Case, space.Set), set, untaggable space.Set) {
	note(firewall.Case1, q.And(set, q.Bit(q.Tagged)))
	note(firewall.Case2, q.And(set, untaggable))
	note(firewall.Case3, set)
}

func ipInIP(f xfrm.Family) xfrm.Proto {
	if f == xfrm.IPv6 {
		return xfrm.IPv6in
	}
	return xfrm.IPIP
}

// EvidenceOf are the packets that came out of a tunnel by one case.
func (q *Packets) EvidenceOf(c firewall.Case) space.Set {
	if set, ok := q.evidence[c]; ok {
		return set
	}
	return space.None
}

// carries returns the packets that carry an overlay device's.
func (q *Packets) carries(o *firewall.Overlay) space.Set {
	if o.VTI {
		return space.None
	}
	set := q.And(q.And(q.single(q.Src, o.Remote), q.single(q.Dst, o.Local)), q.Number(q.Proto, uint64(o.Proto)))
	if o.Port != 0 {
		set = q.And(set, q.Number(q.DPort, uint64(o.Port)))
	}
	return set
}

// sends returns the packets with an address in a field that may come out of an
// overlay's device.
func (q *Packets) sends(o *firewall.Overlay, f space.Classed) space.Set {
	if o.Sources == nil {
		return space.All
	}
	return q.LiesInAny(f, o.Sources)
}

// openCarriers returns the packets to devices that take carriers from any address.
func (q *Packets) openCarriers() space.Set {
	var sets []space.Set
	for i := range q.OpenDevices {
		o := &q.OpenDevices[i]
		set := q.Number(q.Proto, uint64(o.Proto))
		if o.Port != 0 {
			set = q.And(set, q.Number(q.DPort, uint64(o.Port)))
		}
		if o.Local.IsValid() {
			set = q.And(set, q.single(q.Dst, o.Local))
		} else {
			set = q.And(set, q.Bit(q.DstLocal))
		}
		sets = append(sets, set)
	}
	return q.Union(sets...)
}

// Carriers returns the packets that carry any overlay device's.
func (q *Packets) Carriers() space.Set {
	sets := []space.Set{q.openCarriers()}
	for i := range q.Overlays {
		sets = append(sets, q.carries(&q.Overlays[i]))
	}
	return q.Union(sets...)
}

// errorsFromInside: see firewall.Judge, case 1b.
func (q *Packets) errorsFromInside() space.Set {
	var sets []space.Set
	for _, c := range q.claims {
		if c.PolicyOnly {
			continue
		}
		set := q.And(q.cameOutOf(c.In), q.And(q.LiesIn(q.Dst, c.Pair.Local), q.Or(q.LiesIn(q.OrigSrc, c.Pair.Remote), q.LiesIn(q.ReplySrc, c.Pair.Remote))))
		if c.Enforced {
			set = q.And(set, q.Bit(q.Tagged))
		}
		sets = append(sets, set)
	}
	return q.Minus(q.And(q.And(q.isICMP, q.Bit(q.Related)), q.Union(sets...)), q.OwnedByAnother())
}

// OwnedByAnother returns the packets with a source that a live tunnel owns, unless they
// came out of that tunnel. The most specific claim decides.
func (q *Packets) OwnedByAnother() space.Set {
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
	owned, decided := space.None, space.None
	for len(live) > 0 {
		bits := live[0].Pair.Remote.Bits()
		var foreign, sources []space.Set
		for len(live) > 0 && live[0].Pair.Remote.Bits() == bits {
			remote := live[0].Pair.Remote
			var own []space.Set
			for len(live) > 0 && live[0].Pair.Remote == remote {
				own = append(own, q.cameOutOf(live[0].In))
				live = live[1:]
			}
			source := q.LiesIn(q.Src, remote)
			sources = append(sources, source)
			foreign = append(foreign, q.Minus(source, q.Union(own...)))
		}
		owned = q.Or(owned, q.Minus(q.Union(foreign...), decided))
		decided = q.Or(decided, q.Union(sources...))
	}
	return owned
}
