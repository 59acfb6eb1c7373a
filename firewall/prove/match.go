package prove

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
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
func (s model) matching(r *rules.Rule, at sight) Set {
	if r.In != "" && !at.in || r.Out != "" && !at.out {
		return None
	}
	dst, dport := s.dst, s.dport
	if at.routed {
		dst, dport = s.routedDst, s.routedDPort
	}
	c := s.condition()
	s.policy(c, r.Policy, at)
	s.foreignMark(c, r.Mark, at)
	c.within(s.src, r.Src)
	c.within(dst, r.Dst)
	s.conntrack(c, r.Ct)
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

func (s model) policy(c *condition, m rules.PolicyMatch, at sight) {
	on, seen := &s.path, at.path
	switch m.Dir {
	case rules.NoPolicy:
		return
	case rules.PolicyOut:
		on, seen = &s.ahead, at.ahead
	}
	switch {
	case !seen && m.None:
		return
	case !seen:
		c.rest = None
		return
	case m.None:
		c.and(s.Bit(on.present).Not())
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

func (s model) conntrack(c *condition, m rules.CtMatch) {
	if m.State != 0 {
		states := None
		for _, st := range []struct {
			state rules.CtState
			bit   int
		}{{rules.CtRelated, s.related}, {rules.CtEstablished, s.established}, {rules.CtSNAT, s.snat}, {rules.CtDNAT, s.dnat}} {
			if m.State&st.state != 0 {
				states = s.Or(states, s.Bit(st.bit))
			}
		}
		c.and(negated(states, m.NotState))
	}
	switch m.Dir {
	case rules.CtOriginal:
		c.and(s.Bit(s.reply).Not())
	case rules.CtReply:
		c.bit(s.reply)
	}
	if m.Proto != 0 {
		c.number(s.flowProto, uint64(m.Proto))
	}
	c.ports(s.origSPort, m.OrigSPorts)
	c.ports(s.origDPort, m.OrigDPorts)
	for _, t := range [...]struct {
		field  field
		prefix netip.Prefix
		not    bool
	}{
		{s.origSrc, m.OrigSrc, m.NotOrigSrc}, {s.origDst, m.OrigDst, m.NotOrigDst},
		{s.replySrc, m.ReplSrc, m.NotReplSrc}, {s.replyDst, m.ReplDst, m.NotReplDst},
	} {
		if t.not && t.prefix.IsValid() {
			c.and(s.within(t.field, t.prefix).Not())
		} else {
			c.within(t.field, t.prefix)
		}
	}
}

// marked reports whether a mark match takes packets with our bits of a mark. Its part
// about other bits is a condition of the packet: foreignMark.
func (s model) marked(m rules.MarkMatch, mark uint32) bool {
	ours := m.Mask & s.marks.Both()
	return ours == 0 || (mark&ours == m.Value&ours) != m.Not
}

// foreignMark asks for the bits of a mark that other programs set, which they do behind
// PREROUTING. No rule of ours asks for those and for our bits by their absence.
func (s model) foreignMark(c *condition, m rules.MarkMatch, at sight) {
	mask := m.Mask &^ s.marks.Both()
	if mask == 0 {
		return
	}
	set := None
	switch {
	case at.routed:
		set = s.markIs(m.Value&mask, mask)
	case m.Value&mask == 0:
		set = All
	}
	c.and(negated(set, m.Not))
}
