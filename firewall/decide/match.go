package decide

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// config returns the administrator's decisions on a tunnel: the first entry of
// the configuration that matches it.
//
// The peer's identity may be unknown: the IKE daemon's hook is called a moment
// after the states stand, or it failed, or several peers can't be told apart.
// Entries for a connection or an identity then may be meant or not, and the
// tunnel is held to all that may hold, so that it is never wider than it will
// turn out to be.
func (d *decider) config(t *xfrm.Tunnel) (firewall.TunnelConfig, bool) {
	if len(d.Config.Tunnels) == 0 {
		return firewall.TunnelConfig{}, false
	}
	var maybe []int
	held, ok := firewall.TunnelConfig{}, false
	for i, tc := range d.Config.Tunnels {
		fits := fits(tc.Match, *t, d.Peers[t.ID])
		if fits == unsure {
			maybe = append(maybe, i)
		}
		if fits == yes {
			held, ok = tc, true
			break
		}
	}
	if len(maybe) == 0 {
		return held, ok
	}
	for _, i := range maybe {
		held = narrower(held, d.Config.Tunnels[i])
	}
	held.Name = ""
	return held, true
}

// unknownPeers warns of tunnels that are held to entries that may not be meant
// for them.
func (d *decider) unknownPeers() {
	if len(d.Config.Tunnels) == 0 {
		return
	}
	const named = 3 // peers make tunnels
	unknown := 0
	for _, t := range d.Set.Tunnels {
		if len(t.SAs) == 0 {
			continue
		}
		n := 0
		for _, tc := range d.Config.Tunnels {
			fits := fits(tc.Match, t, d.Peers[t.ID])
			if fits == yes {
				break
			}
			if fits == unsure {
				n++
			}
		}
		if n == 0 {
			continue
		}
		if unknown++; unknown <= named {
			d.facts.Warnings = append(d.facts.Warnings, fmt.Sprintf(
				"tunnel %s: the updown hook has not named its peer, and %d entries of tunnels: may be meant for it: it gets the services that all of them allow; let its connection call the hook, or put an entry before them that matches it by peer, remote or reqid",
				t.ID, n))
		}
	}
	if unknown > named {
		d.facts.Warnings = append(d.facts.Warnings, fmt.Sprintf("tunnels of unknown peers, besides those that are named: %d", unknown-named))
	}
}

// answer is whether an entry matches a tunnel.
type answer uint8

const (
	no answer = iota
	unsure
	yes
)

// fits reports whether an entry matches a tunnel. The kernel's selectors are always
// known; the record of the hook may be missing.
func fits(m firewall.Match, t xfrm.Tunnel, peer firewall.Peer) answer {
	// A tunnel is of the remote network if all of it is: a peer must not slip
	// into an entry for others by one small selector.
	outside := func(p xfrm.Pair) bool {
		return p.Family() == xfrm.FamilyOf(m.Remote.Addr()) && (m.Remote.Bits() > p.Remote.Bits() || !m.Remote.Contains(p.Remote.Addr()))
	}
	of := func(p xfrm.Pair) bool { return p.Family() == xfrm.FamilyOf(m.Remote.Addr()) }
	switch {
	case m.Reqid != 0 && m.Reqid != t.Reqid,
		m.Peer.IsValid() && !m.Peer.Contains(t.Remote),
		m.Remote.IsValid() && (slices.ContainsFunc(t.Pairs, outside) || !slices.ContainsFunc(t.Pairs, of)),
		m.Connection != "" && peer.Connection != "" && m.Connection != peer.Connection,
		m.Identity != "" && peer.Identity != "" && m.Identity != peer.Identity:
		return no
	case m.Connection != "" && peer.Connection == "", m.Identity != "" && peer.Identity == "":
		return unsure
	}
	return yes
}

// narrower returns the intersection of two entries. NAT is kept only if both keep it, and
// the segment size is the smaller.
func narrower(a, b firewall.TunnelConfig) firewall.TunnelConfig {
	return firewall.TunnelConfig{
		Remote:  commonPrefixes(a.Remote, b.Remote),
		In:      commonServices(a.In, b.In),
		Out:     commonServices(a.Out, b.Out),
		MSS:     smaller(a.MSS, b.MSS),
		KeepNAT: a.KeepNAT && b.KeepNAT,
	}
}

// commonPrefixes intersects two caps, of which nil is none.
func commonPrefixes(a, b []netip.Prefix) []netip.Prefix {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	common := []netip.Prefix{}
	for _, p := range a {
		for _, part := range prefix.Intersect(p, b) {
			if !slices.Contains(common, part) {
				common = append(common, part)
			}
		}
	}
	return common
}

// commonServices intersects two lists, of which nil is everything.
func commonServices(a, b []firewall.Service) []firewall.Service {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	common := []firewall.Service{}
	for _, s := range a {
		for _, o := range b {
			if s.Proto != o.Proto {
				continue
			}
			ports := s.Ports
			switch {
			case s.Ports == firewall.Ports{}:
				ports = o.Ports
			case o.Ports != firewall.Ports{}:
				ports = firewall.Ports{Lo: max(s.Ports.Lo, o.Ports.Lo), Hi: min(s.Ports.Hi, o.Ports.Hi)}
			}
			if both := (firewall.Service{Proto: s.Proto, Ports: ports}); ports.Lo <= ports.Hi && !slices.Contains(common, both) {
				common = append(common, both)
			}
		}
	}
	return common
}

// smaller returns the smaller of two segment sizes, of which the computed one
// is taken for the smallest.
func smaller(a, b firewall.MSS) firewall.MSS {
	switch {
	case a.Auto || b.Auto:
		return firewall.MSS{Auto: true}
	case a.Size == 0 || b.Size == 0:
		return firewall.MSS{Size: max(a.Size, b.Size)}
	}
	return firewall.MSS{Size: min(a.Size, b.Size)}
}
