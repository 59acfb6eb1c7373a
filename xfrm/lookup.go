package xfrm

import (
	"net/netip"
	"slices"
)

// Flow is the part of a packet that the kernel compares with policies (struct flowi).
type Flow struct {
	Src, Dst netip.Addr
	Proto    Proto
	// SPort and DPort are the ports, or type and code of ICMP and ICMPv6.
	SPort, DPort uint16
	Mark         uint32
	// IfID is that of the xfrm interface that the packet comes out of or goes
	// into, 0 for any other.
	IfID uint32
	// Ifindex is the interface that it is routed to.
	Ifindex int32
}

// Matches reports whether the selector claims a packet
// (__xfrm4_selector_match and __xfrm6_selector_match).
func (s Selector) Matches(f Flow) bool {
	return s.Src.Contains(f.Src) && s.Dst.Contains(f.Dst) &&
		(s.Proto == 0 || s.Proto == f.Proto) && s.SPort.has(f.SPort) && s.DPort.has(f.DPort) &&
		(s.Ifindex == 0 || s.Ifindex == f.Ifindex)
}

func (p PortMatch) has(port uint16) bool { return (port^p.Port)&p.Mask == 0 }

// Lookup returns the policy that the kernel takes for a packet in a direction,
// and whether there is one (xfrm_policy_lookup). Socket policies are not looked
// at: they belong to sockets, and packets show none. Among policies of equal
// priority the index decides, as Sort says.
func (s Snapshot) Lookup(d Dir, f Flow) (Policy, bool) {
	best := -1
	for i, p := range s.Policies {
		if p.Dir != d || p.Type != Main || p.IfID != f.IfID || f.Mark&p.Mark.Mask != p.Mark.Value || !p.Selector.Matches(f) {
			continue
		}
		if best < 0 || p.Priority < s.Policies[best].Priority ||
			p.Priority == s.Policies[best].Priority && p.Index < s.Policies[best].Index {
			best = i
		}
	}
	if best < 0 {
		return Policy{}, false
	}
	return s.Policies[best], true
}

// Owner returns the index of the tunnel that a policy is part of, and false for
// a bypass, a block, or a policy that became no tunnel.
func (s Set) Owner(p Policy) (int, bool) {
	pair := pairOf(&p)
	key, _, ok := keyOf(&p, pair)
	if !ok || p.Action != Allow || p.Socket() || p.Type != Main {
		return 0, false
	}
	for i, t := range s.Tunnels {
		if t.Reqid != key.reqid || t.Proto != key.proto || t.Mode != key.mode || t.Comp != key.comp ||
			Specified(key.local) && t.Local != key.local || Specified(key.remote) && t.Remote != key.remote {
			continue
		}
		if slices.ContainsFunc(t.Pairs, func(q Pair) bool { return q.Has(p.Dir) && q.Compare(pair) == 0 }) {
			return i, true
		}
	}
	return 0, false
}

// The tables that are looked up without a rule of their own, and strongSwan's,
// which its rule puts before them.
const (
	strongSwanTable = 220
	mainTable       = 254
	defaultTable    = 253
)

// Route returns the route that a packet to dst takes: the longest prefix in
// strongSwan's table 220, else in main, else in default. Other tables are
// reached by rules that a Host does not know, and so are not looked at. Of
// several routes that are alike the kernel's metric would decide; here the
// first stands for them.
func (h Host) Route(dst netip.Addr) (Route, bool) {
	for _, table := range [...]uint32{strongSwanTable, mainTable, defaultTable} {
		best, found := Route{}, false
		for _, r := range h.Routes {
			if r.Table != table && !(table == mainTable && r.Table == 0) || !r.Dst.Contains(dst) {
				continue
			}
			if !found || r.Dst.Bits() > best.Dst.Bits() {
				best, found = r, true
			}
		}
		if found {
			return best, true
		}
	}
	return Route{}, false
}

// LinkNamed returns the link with that name.
func (h Host) LinkNamed(name string) (Link, bool) {
	for _, l := range h.Links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}
