package xfrm

// A Decision is the kernel's own decision on a packet by its policies.
type Decision struct {
	Policy Policy
	// Found is true if a policy claims the packet.
	Found bool
	// Refused is true if the kernel drops the packet; it counts it as Counter in
	// /proc/net/xfrm_stat.
	Refused bool
	Counter string
	// Ahead are the SAs that the packet will go through.
	Ahead []Transform
	// Stateless is true if the policy asks for an SA that does not exist: the kernel
	// asks the IKE daemon for one and drops the packet, or holds it with
	// net.core.xfrm_larval_drop=0.
	Stateless bool
}

// NoStates is the counter of packets that find a policy without an SA.
const NoStates = "XfrmOutNoStates"

// Check is the kernel's check of a received packet that came out of the SAs of path,
// before FORWARD or behind INPUT (__xfrm_policy_check, net/xfrm/xfrm_policy.c).
func (s Snapshot) Check(d Dir, f Flow, path []Transform) Decision {
	var c Decision
	c.Policy, c.Found = s.Lookup(d, f)
	switch {
	case !c.Found && len(path) > 0 && path[len(path)-1].Mode != TransportMode:
		c.Refused, c.Counter = true, "XfrmInNoPols"
	case !c.Found:
	case c.Policy.Action == Block:
		c.Refused, c.Counter = true, "XfrmInPolBlock"
	case !c.Policy.satisfiedBy(path):
		c.Refused, c.Counter = true, "XfrmInTmplMismatch"
	}
	return c
}

// satisfiedBy reports whether the SAs are those that a policy asks for
// (xfrm_policy_ok). IPComp's templates are optional: small packets lack it.
func (p Policy) satisfiedBy(path []Transform) bool {
	for _, t := range p.Templates {
		if t.Proto == Comp || t.Optional {
			continue
		}
		ok := false
		for _, s := range path {
			ok = ok || s.Proto == t.Proto && (t.Reqid == 0 || s.Reqid == t.Reqid) && s.Mode == t.Mode &&
				(t.Mode == TransportMode || !Specified(t.Src) || t.Src == s.Src)
		}
		if !ok {
			return false
		}
	}
	if len(p.Templates) == 0 && len(path) > 0 {
		return path[len(path)-1].Mode == TransportMode
	}
	return true
}

// Outbound is the kernel's lookup for a packet that leaves (xfrm_lookup). Set has the
// tunnels of the snapshot.
func (s Snapshot) Outbound(set Set, f Flow) Decision {
	var c Decision
	c.Policy, c.Found = s.Lookup(Out, f)
	if !c.Found || c.Policy.Bypass() {
		return c
	}
	if c.Policy.Action == Block {
		c.Refused, c.Counter = true, "XfrmOutPolBlock"
		return c
	}
	i, ok := set.Owner(c.Policy)
	if !ok {
		return c
	}
	t := &set.Tunnels[i]
	for _, sa := range t.SAs {
		if !sa.Inbound {
			c.Ahead = t.Transforms(sa)
			return c
		}
	}
	if !t.Optional {
		c.Stateless, c.Counter = true, NoStates
	}
	return c
}

// Transforms are the steps that an SA of the tunnel adds to a packet's security path.
// With IPComp the compression comes with the SA, and makes the tunnel.
func (t *Tunnel) Transforms(sa SA) []Transform {
	all := []Transform{{Proto: sa.Proto, Mode: sa.Mode, Reqid: sa.Reqid, Src: sa.Src, Dst: sa.Dst}}
	if t.Comp {
		all = append(all, Transform{Proto: Comp, Mode: t.Mode, Reqid: sa.Reqid, Src: sa.Src, Dst: sa.Dst})
	}
	return all
}

// OuterLink returns the interface of packets that go through SAs: the one that leads to
// the peer where a tunnel is among them, because their hooks see the route of the outer
// packet (xfrm_bundle_create). It returns false where the inner route stays.
func (h Host) OuterLink(ahead []Transform) (Link, bool) {
	for _, t := range ahead {
		if t.Mode == TunnelMode {
			r, ok := h.Route(t.Dst)
			l, known := h.Link(r.Link)
			return l, ok && known
		}
	}
	return Link{}, false
}
