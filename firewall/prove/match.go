package prove

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/bdd"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// sight tells which parts of a packet the rules of a hook see.
type sight struct {
	// path and ahead are true if rules see the SAs that a packet came out of, and will
	// go through; in and out if they see such an interface.
	path, ahead, in, out bool
	// routed is true behind DNAT.
	routed bool
	// dstLocal is the packets to an address of this host.
	dstLocal Set
}

// matching returns the packets that a rule matches at a hook, with any mark. Its meaning
// is that of trace.Matches: a test drives both.
func (s *Space) matching(r *rules.Rule, at sight) Set {
	if r.In != "" && !at.in || r.Out != "" && !at.out {
		return None
	}
	dst, dport := s.dst, s.dport
	if at.routed {
		dst, dport = s.routedDst, s.routedDPort
	}
	c := condition{Space: s, rest: All}
	c.policy(r.Policy, at)
	c.foreignMark(r.Mark, at)
	c.within(s.src, r.Src)
	c.within(dst, r.Dst)
	c.conntrack(r.Ct)
	c.ports(s.sport, r.SPorts)
	c.ports(dport, r.DPorts)
	if r.Proto != 0 {
		c.number(s.proto, uint64(r.Proto))
	}
	if r.ICMP.Set {
		c.number(s.icmpType, uint64(r.ICMP.Type))
		if r.ICMP.HasCode {
			c.number(s.icmpCode, uint64(r.ICMP.Code))
		}
	}
	if r.In != "" {
		c.device(s.in, r.In)
	}
	if r.Out != "" {
		c.device(s.out, r.Out)
	}
	if r.SrcType == rules.Local {
		c.bit(s.srcLocal)
	}
	if r.DstType == rules.Local {
		c.and(at.dstLocal)
	}
	if r.RPFilterInvert {
		c.bit(s.misrouted)
	}
	return c.set()
}

// condition is the conjunction of a rule's matches: most are bits that have a value.
type condition struct {
	*Space
	literals []bdd.Literal
	rest     Set
}

func (c *condition) set() Set { return c.And(c.Cube(c.literals), c.rest) }

func (c *condition) and(set Set) { c.rest = c.And(c.rest, set) }

func (c *condition) bit(bit int) { c.literals = append(c.literals, bdd.Literal{Bit: bit, Is: true}) }

func (c *condition) number(f field, n uint64) {
	for i, bit := range f {
		c.literals = append(c.literals, bdd.Literal{Bit: bit, Is: n>>(len(f)-1-i)&1 != 0})
	}
}

// within asks for an address of a prefix. The zero prefix is all.
func (c *condition) within(f field, p netip.Prefix) {
	switch {
	case !p.IsValid():
		return
	case xfrm.FamilyOf(p.Addr()) != c.Family:
		c.rest = None
		return
	}
	b := p.Addr().As16()
	address := b[:]
	if c.Family == xfrm.IPv4 {
		address = b[12:]
	}
	for i := range p.Bits() {
		c.literals = append(c.literals, bdd.Literal{Bit: f[i], Is: address[i/8]>>(7-i%8)&1 != 0})
	}
}

func (c *condition) device(f field, name string) {
	i, ok := slices.BinarySearch(c.names, name)
	if !ok {
		c.rest = None
		return
	}
	c.number(f, uint64(i))
}

func (c *condition) ports(f field, p firewall.Ports) {
	switch {
	case p == firewall.Ports{}:
	case p.Lo == p.Hi:
		c.number(f, uint64(p.Lo))
	default:
		c.and(c.Space.ports(f, p))
	}
}

func (c *condition) policy(m rules.PolicyMatch, at sight) {
	on, seen := &c.path, at.path
	switch m.Dir {
	case rules.NoPolicy:
		return
	case rules.PolicyOut:
		on, seen = &c.ahead, at.ahead
	}
	switch {
	case !seen && m.None:
		return
	case !seen:
		c.rest = None
		return
	case m.None:
		c.and(c.Bit(on.present).Not())
		return
	}
	c.bit(on.present)
	if m.HasReqid {
		c.number(on.reqid, uint64(m.Reqid))
	}
	if m.Proto != 0 {
		c.number(on.proto, uint64(m.Proto))
	}
	if m.TunnelSrc.IsValid() || m.TunnelDst.IsValid() {
		c.bit(on.tunnel)
		c.within(on.source, m.TunnelSrc)
		c.within(on.destine, m.TunnelDst)
	}
}

func (c *condition) conntrack(m rules.CtMatch) {
	if m.State != 0 {
		states := None
		for _, st := range []struct {
			state rules.CtState
			bit   int
		}{{rules.CtRelated, c.related}, {rules.CtEstablished, c.established}, {rules.CtSNAT, c.snat}, {rules.CtDNAT, c.dnat}} {
			if m.State&st.state != 0 {
				states = c.Or(states, c.Bit(st.bit))
			}
		}
		c.and(negated(states, m.NotState))
	}
	switch m.Dir {
	case rules.CtOriginal:
		c.and(c.Bit(c.reply).Not())
	case rules.CtReply:
		c.bit(c.reply)
	}
	if m.Proto != 0 {
		c.number(c.flowProto, uint64(m.Proto))
	}
	c.ports(c.origSPort, m.OrigSPorts)
	c.ports(c.origDPort, m.OrigDPorts)
	for _, t := range [...]struct {
		field  field
		prefix netip.Prefix
		not    bool
	}{
		{c.origSrc, m.OrigSrc, m.NotOrigSrc}, {c.origDst, m.OrigDst, m.NotOrigDst},
		{c.replySrc, m.ReplSrc, m.NotReplSrc}, {c.replyDst, m.ReplDst, m.NotReplDst},
	} {
		if t.not && t.prefix.IsValid() {
			c.and(c.Space.within(t.field, t.prefix).Not())
		} else {
			c.within(t.field, t.prefix)
		}
	}
}

func negated(set Set, not bool) Set {
	if not {
		return set.Not()
	}
	return set
}

// marked reports whether a mark match takes packets with our bits of a mark. Its part
// about other bits is a condition of the packet: foreignMark.
func (s *Space) marked(m rules.MarkMatch, mark uint32) bool {
	ours := m.Mask & s.marks.Both()
	return ours == 0 || (mark&ours == m.Value&ours) != m.Not
}

// foreignMark asks for the bits of a mark that other programs set, which they do behind
// PREROUTING. No rule of ours asks for those and for our bits by their absence.
func (c *condition) foreignMark(m rules.MarkMatch, at sight) {
	mask := m.Mask &^ c.marks.Both()
	if mask == 0 {
		return
	}
	set := None
	switch {
	case at.routed:
		set = c.markIs(m.Value&mask, mask)
	case m.Value&mask == 0:
		set = All
	}
	c.and(negated(set, m.Not))
}

// markIs are the packets of which the mark of other programs has a value under a mask.
func (s *Space) markIs(value, mask uint32) Set {
	var literals []bdd.Literal
	for i, bit := range s.fwmark {
		if at := uint32(1) << (len(s.fwmark) - 1 - i); mask&at != 0 {
			literals = append(literals, bdd.Literal{Bit: bit, Is: value&at != 0})
		}
	}
	return s.Cube(literals)
}
