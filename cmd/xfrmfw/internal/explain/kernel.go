package explain

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// judgement is what the kernel itself decides by a policy.
type judgement struct {
	policy xfrm.Policy
	found  bool
	// refused tells that the kernel drops the packet, counted as counter in
	// /proc/net/xfrm_stat.
	refused bool
	counter string
	// ahead are the states that the packet will go through.
	ahead []xfrm.Transform
	// stateless tells that the policy asks for a state that is not there: the
	// kernel asks the IKE daemon for one and drops the packet (or holds it, with
	// net.core.xfrm_larval_drop=0).
	stateless bool
}

// noStates is where the kernel counts what finds a policy without a state.
const noStates = "XfrmOutNoStates"

// flow is the packet as the policies see it.
func (w World) flow(p trace.Packet) xfrm.Flow {
	f := xfrm.Flow{Src: p.Src, Dst: p.Dst, Proto: p.Proto, SPort: p.SPort, DPort: p.DPort, Mark: p.Mark}
	if p.Proto == xfrm.ICMP || p.Proto == xfrm.ICMPv6 {
		f.SPort, f.DPort = uint16(p.ICMPType), uint16(p.ICMPCode)
	}
	if l, ok := w.Snapshot.Host.LinkNamed(p.Out); ok {
		f.Ifindex = l.Index
	}
	return f
}

// exempt reports whether no policy is asked: for what stays on the host, and
// for IPsec's own packets, whose sockets have policies of their own.
func exempt(p trace.Packet, inbound bool) bool {
	port := p.SPort
	if inbound {
		port = p.DPort
	}
	switch {
	case p.In == "lo", p.Out == "lo":
		return true
	case p.Proto == xfrm.ESP, p.Proto == xfrm.AH:
		return true
	}
	return p.Proto == xfrm.UDP && (port == 500 || port == 4500)
}

// inbound is the kernel's check of what came in (__xfrm_policy_check), before
// FORWARD or behind INPUT.
func (w World) inbound(d xfrm.Dir, p trace.Packet) judgement {
	if d == xfrm.In && exempt(p, true) || p.In == "lo" {
		return judgement{}
	}
	f := w.flow(p)
	if l, ok := w.Snapshot.Host.LinkNamed(p.In); ok && l.Kind == "xfrm" && len(p.SecPath) > 0 {
		f.IfID = l.IfID
	}
	j := judgement{}
	j.policy, j.found = w.Snapshot.Lookup(d, f)
	tunnelled := len(p.SecPath) > 0 && p.SecPath[len(p.SecPath)-1].Mode != xfrm.TransportMode
	switch {
	case !j.found && tunnelled:
		j.refused, j.counter = true, "XfrmInNoPols"
	case !j.found:
	case j.policy.Action == xfrm.Block:
		j.refused, j.counter = true, "XfrmInPolBlock"
	case !satisfied(j.policy, p.SecPath):
		j.refused, j.counter = true, "XfrmInTmplMismatch"
	}
	return j
}

// satisfied reports whether the states are those that a policy asks for
// (xfrm_policy_ok). IPComp's templates are optional: small packets lack it.
func satisfied(p xfrm.Policy, path []xfrm.Transform) bool {
	for _, t := range p.Templates {
		if t.Proto == xfrm.Comp || t.Optional {
			continue
		}
		ok := false
		for _, s := range path {
			ok = ok || s.Proto == t.Proto && (t.Reqid == 0 || s.Reqid == t.Reqid) && s.Mode == t.Mode &&
				(t.Mode == xfrm.TransportMode || !t.Src.IsValid() || t.Src.IsUnspecified() || t.Src == s.Src)
		}
		if !ok {
			return false
		}
	}
	if len(p.Templates) == 0 && len(path) > 0 {
		return path[len(path)-1].Mode == xfrm.TransportMode
	}
	return true
}

// outbound is the lookup of what leaves (xfrm_lookup).
func (w World) outbound(p trace.Packet) judgement {
	if exempt(p, false) && p.SrcLocal || p.Out == "lo" {
		return judgement{}
	}
	return w.outboundFlow(w.flow(p))
}

func (w World) outboundFlow(f xfrm.Flow) judgement {
	j := judgement{}
	j.policy, j.found = w.Snapshot.Lookup(xfrm.Out, f)
	if !j.found {
		return j
	}
	if j.policy.Action == xfrm.Block {
		j.refused, j.counter = true, "XfrmOutPolBlock"
		return j
	}
	if j.policy.Bypass() {
		return j
	}
	i, ok := w.Set.Owner(j.policy)
	if !ok {
		return j
	}
	t := w.Set.Tunnels[i]
	for _, sa := range t.SAs {
		if !sa.Inbound {
			j.ahead = transforms(t, sa)
			return j
		}
	}
	if !t.Optional {
		j.stateless, j.counter = true, noStates
	}
	return j
}

// intoDevice is the lookup for what a tunnel device sends on, and false for any
// other device.
func (w World) intoDevice(p trace.Packet) (judgement, bool) {
	l, ok := w.Snapshot.Host.LinkNamed(p.Out)
	f := w.flow(p)
	f.Ifindex = 0
	switch {
	case ok && l.Kind == "xfrm":
		f.IfID = l.IfID
	case ok && (l.Kind == "vti" || l.Kind == "vti6"):
		f.Mark = l.OKey
	default:
		return judgement{}, false
	}
	return w.outboundFlow(f), true
}

// Policy is what the kernel's policy database says of a packet in one direction.
type Policy struct {
	// Dir is "in", "fwd" or "out".
	Dir string `json:"dir"`
	// Action is "protect", "bypass", "block", or "none" where no policy claims it.
	Action   string `json:"action"`
	Selector string `json:"selector"`
	Priority uint32 `json:"priority"`
	Reqid    uint32 `json:"reqid"`
	// Tunnel is the ID of the tunnel that the policy is part of.
	Tunnel string `json:"tunnel"`
	// Effect says what the kernel does by it.
	Effect string `json:"effect"`
}

func (w World) policy(d xfrm.Dir, j judgement, effect string) Policy {
	p := Policy{Dir: d.String(), Action: "none", Effect: effect}
	if !j.found {
		return p
	}
	p.Selector, p.Priority = j.policy.Selector.String(), j.policy.Priority
	switch {
	case j.policy.Action == xfrm.Block:
		p.Action = "block"
	case j.policy.Bypass():
		p.Action = "bypass"
	default:
		p.Action = "protect"
		if i, ok := w.Set.Owner(j.policy); ok {
			p.Tunnel, p.Reqid = w.Set.Tunnels[i].ID, w.Set.Tunnels[i].Reqid
		}
	}
	return p
}

// effect says in words what the kernel does with the packet by the policy.
func (j judgement) effect(inbound bool, hasPath bool) string {
	switch {
	case j.refused:
		return fmt.Sprintf("the kernel drops it (%s)", j.counter)
	case j.stateless:
		return "no SA: the kernel asks the IKE daemon for one and drops the packet (" + noStates + ")"
	case len(j.ahead) > 0:
		return "will be encrypted"
	case inbound && j.found && hasPath:
		return "satisfied by its SA"
	case inbound:
		return "passes the kernel's check"
	}
	return "sent without IPsec"
}
