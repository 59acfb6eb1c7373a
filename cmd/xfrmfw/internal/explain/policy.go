package explain

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

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

// exempt reports whether the kernel looks up no policy: for packets that stay on the
// host, and for IPsec's own packets: their sockets have policies of their own.
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

// inbound is the kernel's check of a received packet.
func (w World) inbound(d xfrm.Dir, p trace.Packet) xfrm.Decision {
	if d == xfrm.In && exempt(p, true) || p.In == "lo" {
		return xfrm.Decision{}
	}
	f := w.flow(p)
	if l, ok := w.Snapshot.Host.LinkNamed(p.In); ok && l.Kind == "xfrm" && len(p.SecPath) > 0 {
		f.IfID = l.IfID
	}
	return w.Snapshot.Check(d, f, p.SecPath)
}

// outbound is the kernel's lookup for a packet that leaves.
func (w World) outbound(p trace.Packet) xfrm.Decision {
	if exempt(p, false) && p.SrcLocal || p.Out == "lo" {
		return xfrm.Decision{}
	}
	return w.Snapshot.Outbound(w.Set, w.flow(p))
}

// intoDevice is the lookup for a packet that a tunnel device sends on, and false for any
// other device.
func (w World) intoDevice(p trace.Packet) (xfrm.Decision, bool) {
	l, ok := w.Snapshot.Host.LinkNamed(p.Out)
	f := w.flow(p)
	f.Ifindex = 0
	switch {
	case ok && l.Kind == "xfrm":
		f.IfID = l.IfID
	case ok && (l.Kind == "vti" || l.Kind == "vti6"):
		f.Mark = l.OKey
	default:
		return xfrm.Decision{}, false
	}
	return w.Snapshot.Outbound(w.Set, f), true
}

// A Policy is the answer of the kernel's policy database for a packet in one direction.
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
	// Effect is the kernel's action because of it.
	Effect string `json:"effect"`
}

func (w World) policy(d xfrm.Dir, j xfrm.Decision, effect string) Policy {
	p := Policy{Dir: d.String(), Action: "none", Effect: effect}
	if !j.Found {
		return p
	}
	p.Selector, p.Priority = j.Policy.Selector.String(), j.Policy.Priority
	switch {
	case j.Policy.Action == xfrm.Block:
		p.Action = "block"
	case j.Policy.Bypass():
		p.Action = "bypass"
	default:
		p.Action = "protect"
		if i, ok := w.Set.Owner(j.Policy); ok {
			p.Tunnel, p.Reqid = w.Set.Tunnels[i].ID, w.Set.Tunnels[i].Reqid
		}
	}
	return p
}

// effectOf is the kernel's decision in words.
func effectOf(j xfrm.Decision, inbound bool, hasPath bool) string {
	switch {
	case j.Refused:
		return fmt.Sprintf("the kernel drops it (%s)", j.Counter)
	case j.Stateless:
		return "no SA: the kernel asks the IKE daemon for one and drops the packet (" + xfrm.NoStates + ")"
	case len(j.Ahead) > 0:
		return "will be encrypted"
	case inbound && j.Found && hasPath:
		return "satisfied by its SA"
	case inbound:
		return "passes the kernel's check"
	}
	return "sent without IPsec"
}
