package evaluate

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
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
	dstLocal space.Set
}

// matching returns the packets that a rule matches at a hook, with any mark. Its meaning
// is that of trace.Matches: a test drives both.
func (s model) matching(r *rules.Rule, at sight) space.Set {
	if r.In != "" && !at.in || r.Out != "" && !at.out {
		return space.None
	}
	dst, dport := s.Dst, s.DPort
	if at.routed {
		dst, dport = s.RoutedDst, s.RoutedDPort
	}
	c := s.Condition()
	s.policy(c, r.Policy, at)
	s.foreignMark(c, r.Mark, at)
	c.LiesIn(s.Src, r.Src)
	c.LiesIn(dst, r.Dst)
	s.conntrack(c, r.Ct)
	c.Ports(s.SPort, r.SPorts)
	c.Ports(dport, r.DPorts)
	if r.Proto != 0 {
		c.Number(s.Proto, uint64(r.Proto))
	}
	if r.ICMP.Set {
		c.Number(s.ICMPType, uint64(r.ICMP.Type))
		if r.ICMP.HasCode {
			c.Number(s.ICMPCode, uint64(r.ICMP.Code))
		}
	}
	if r.In != "" {
		c.Device(s.In, r.In)
	}
	if r.Out != "" {
		c.Device(s.Out, r.Out)
	}
	if r.SrcType == rules.Local {
		c.Bit(s.SrcLocal)
	}
	if r.DstType == rules.Local {
		c.And(at.dstLocal)
	}
	if r.RPFilterInvert {
		c.Bit(s.Misrouted)
	}
	return c.Set()
}

func (s model) policy(c *space.Condition, m rules.PolicyMatch, at sight) {
	on, seen := &s.Path, at.path
	switch m.Dir {
	case rules.NoPolicy:
		return
	case rules.PolicyOut:
		on, seen = &s.Ahead, at.ahead
	}
	switch {
	case !seen && m.None:
		return
	case !seen:
		c.And(space.None)
		return
	case m.None:
		c.And(s.Bit(on.Present).Not())
		return
	}
	c.Bit(on.Present)
	if m.HasReqid {
		c.Reqid(on, m.Reqid)
	}
	if m.Proto != 0 {
		c.Number(on.Proto, uint64(m.Proto))
	}
	if m.TunnelSrc.IsValid() || m.TunnelDst.IsValid() {
		c.Bit(on.Tunnel)
		c.LiesIn(on.Source, m.TunnelSrc)
		c.LiesIn(on.Destination, m.TunnelDst)
	}
}

func (s model) conntrack(c *space.Condition, m rules.CtMatch) {
	if s.untracked { // the state alone is asked for then, and is none of those (conntrack_mt)
		c.And(space.TruthOf(m == rules.CtMatch{} || m.NotState))
		return
	}
	if m.State != 0 {
		states := space.None
		for _, st := range []struct {
			state rules.CtState
			bit   int
		}{{rules.CtRelated, s.Related}, {rules.CtEstablished, s.Established}, {rules.CtSNAT, s.SNAT}, {rules.CtDNAT, s.DNAT}} {
			if m.State&st.state != 0 {
				states = s.Or(states, s.Bit(st.bit))
			}
		}
		c.And(space.Negated(states, m.NotState))
	}
	switch m.Dir {
	case rules.CtOriginal:
		c.And(s.Bit(s.Reply).Not())
	case rules.CtReply:
		c.Bit(s.Reply)
	}
	if m.Proto != 0 {
		c.Number(s.FlowProto, uint64(m.Proto))
	}
	c.Ports(s.OrigSPort, m.OrigSPorts)
	c.Ports(s.OrigDPort, m.OrigDPorts)
	for _, t := range [...]struct {
		field  space.Classed
		prefix netip.Prefix
		not    bool
	}{
		{s.OrigSrc, m.OrigSrc, m.NotOrigSrc}, {s.OrigDst, m.OrigDst, m.NotOrigDst},
		{s.ReplySrc, m.ReplSrc, m.NotReplSrc}, {s.ReplyDst, m.ReplDst, m.NotReplDst},
	} {
		if t.not && t.prefix.IsValid() {
			c.And(s.LiesIn(t.field, t.prefix).Not())
		} else {
			c.LiesIn(t.field, t.prefix)
		}
	}
}

// marked reports whether a mark match takes packets with our bits of a mark. Its part
// about other bits is a condition of the packet: foreignMark.
func (s model) marked(m rules.MarkMatch, mark uint32) bool {
	ours := m.Mask & s.Marks.Both()
	return ours == 0 || (mark&ours == m.Value&ours) != m.Not
}

// foreignMark asks for the bits of a mark that other programs set, which they do behind
// PREROUTING. No rule of ours asks for those and for our bits by their absence.
func (s model) foreignMark(c *space.Condition, m rules.MarkMatch, at sight) {
	mask := m.Mask &^ s.Marks.Both()
	if mask == 0 {
		return
	}
	set := space.None
	switch {
	case at.routed:
		set = s.MarkIs(m.Value&mask, mask)
	case m.Value&mask == 0:
		set = space.All
	}
	c.And(space.Negated(set, m.Not))
}
