package trace

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Packet is the part of a packet that a rule can match. It is a value for the evaluator;
// nothing reads one from a wire.
type Packet struct {
	Src, Dst netip.Addr
	In, Out  string
	Proto    xfrm.Proto
	// SPort and DPort are 0 where the protocol has none.
	SPort, DPort uint16
	// ICMPType and ICMPCode are those of ICMP and ICMPv6.
	ICMPType, ICMPCode uint8
	Mark               uint32
	// Path are the states that the packet came out of, if any (--dir in).
	SecPath []xfrm.Transform
	// Ahead are the states that it will go through, if any (--dir out).
	OutBundle []xfrm.Transform
	Ct        Conntrack
	// SrcLocal and DstLocal tell whether the addresses are this host's.
	SrcLocal, DstLocal bool
	// Misrouted is true if no route by the interface In leads to its source.
	FailsRPFilter bool
}

// Conntrack is the kernel's knowledge of a packet's flow.
type Conntrack struct {
	State                              rules.CtState
	Dir                                rules.CtDir
	OrigSrc, OrigDst, ReplSrc, ReplDst netip.Addr
	Proto                              xfrm.Proto
	OrigSPort, OrigDPort               uint16
}

// Family is the packet's own.
func (p Packet) Family() xfrm.Family {
	if p.Src.Is4() {
		return xfrm.IPv4
	}
	return xfrm.IPv6
}

// Matches reports whether all matches of the rule hold for the packet. A limit
// match is taken to hold.
func Matches(r rules.Rule, p Packet) bool {
	return prefix.Covers(r.Src, p.Src) && prefix.Covers(r.Dst, p.Dst) &&
		(r.In == "" || r.In == p.In) && (r.Out == "" || r.Out == p.Out) &&
		(r.Proto == 0 || r.Proto == p.Proto) &&
		hasPort(r.SPorts, p.SPort) && hasPort(r.DPorts, p.DPort) && matchICMP(r.ICMP, p) &&
		(r.SrcType != rules.Local || p.SrcLocal) && (r.DstType != rules.Local || p.DstLocal) &&
		matchMark(r.Mark, p.Mark) && matchPolicy(r.Policy, p) && matchCt(r.Ct, p.Ct) &&
		(!r.RPFilterInvert || p.FailsRPFilter)
}

func hasPort(r firewall.Ports, port uint16) bool {
	return r == firewall.Ports{} || r.Lo <= port && port <= r.Hi
}

func matchICMP(m rules.ICMPMatch, p Packet) bool {
	return !m.Set || m.Type == p.ICMPType && (!m.HasCode || m.Code == p.ICMPCode)
}

func matchMark(m rules.MarkMatch, mark uint32) bool {
	return m.Mask == 0 || (mark&m.Mask == m.Value) != m.Not
}

func matchPolicy(m rules.PolicyMatch, p Packet) bool {
	if m.Dir == rules.NoPolicy {
		return true
	}
	path := p.SecPath
	if m.Dir == rules.PolicyOut {
		path = p.OutBundle
	}
	if m.None {
		return len(path) == 0
	}
	for _, t := range path {
		if (m.Proto == 0 || m.Proto == t.Proto) && (!m.HasReqid || m.Reqid == t.Reqid) &&
			(!m.TunnelSrc.IsValid() || t.Mode == xfrm.TunnelMode && prefix.OuterIn(m.TunnelSrc, t.Src)) &&
			(!m.TunnelDst.IsValid() || t.Mode == xfrm.TunnelMode && prefix.OuterIn(m.TunnelDst, t.Dst)) {
			return true
		}
	}
	return false
}

func matchCt(m rules.CtMatch, c Conntrack) bool {
	if m.State != 0 && (m.State&c.State != 0) == m.NotState {
		return false
	}
	if m.Dir != rules.CtAnyDir && m.Dir != c.Dir {
		return false
	}
	if m.Proto != 0 && m.Proto != c.Proto || !hasPort(m.OrigSPorts, c.OrigSPort) || !hasPort(m.OrigDPorts, c.OrigDPort) {
		return false
	}
	for _, f := range [...]struct {
		prefix netip.Prefix
		not    bool
		addr   netip.Addr
	}{
		{m.OrigSrc, m.NotOrigSrc, c.OrigSrc}, {m.OrigDst, m.NotOrigDst, c.OrigDst},
		{m.ReplSrc, m.NotReplSrc, c.ReplSrc}, {m.ReplDst, m.NotReplDst, c.ReplDst},
	} {
		if f.prefix.IsValid() && f.prefix.Contains(f.addr) == f.not {
			return false
		}
	}
	return true
}
