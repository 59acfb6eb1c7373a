package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
)

// findEvidence returns the case by which the packet came out of a tunnel: 1, 1b, 1c, 2,
// 3 or 4, or NoCase.
func (q *question) findEvidence() Case {
	if !q.decrypted() {
		// Case 4: a device that unwraps has dropped the SA, and its packets have the
		// VERIFIED of their carrier; on a VTI TAG comes straight from ESP.
		if q.isUnwrapped() {
			return Case4
		}
		return NoCase
	}
	for i := range q.Claims {
		if c := &q.Claims[i]; c.PolicyOnly && q.verifies(c) {
			return Case2
		}
	}
	if o := q.carrier(); o != nil {
		return q.tagCase(o.Below == nil && q.cameOutOf(o.In), o.Untaggable)
	}
	if q.isOpenCarrier() {
		return NoCase
	}
	found := NoCase
	for i := range q.Claims {
		c := &q.Claims[i]
		if q.verifies(c) && !c.PolicyOnly {
			found = stronger(found, q.tagCase(true, c.Untaggable))
		}
	}
	for i := range q.IPComp {
		c := &q.IPComp[i]
		if q.Received.Src == c.Remote && q.Received.Dst == c.Local && q.Proto == ipInIP(q.family) && q.cameOutOf(c.In) && (q.Tagged || !c.Enforced) {
			found = stronger(found, Case1c)
		}
	}
	if found == NoCase && q.isErrorFromInside() {
		return Case1b
	}
	return found
}

// verifies: the packet came out of the claim's SAs and lies in its selectors.
func (q *question) verifies(c *Claim) bool {
	return q.cameOutOf(c.In) && q.comesFrom(c.Pair, q.Received)
}

// tagCase is the case of a packet by its SA: with TAG, without where none can be had,
// and without where it could have been.
func (q *question) tagCase(bySA, untaggable bool) Case {
	switch {
	case !bySA:
		return NoCase
	case q.Tagged:
		return Case1
	case untaggable:
		return Case2
	}
	return Case3
}

// isErrorFromInside: an ICMP error about a flow of the tunnel that it came out of,
// from a router that no other live tunnel owns (case 1b).
func (q *question) isErrorFromInside() bool {
	if !q.icmp() || !q.Flow.Related {
		return false
	}
	for i := range q.Claims {
		c := &q.Claims[i]
		if !c.PolicyOnly && q.cameOutOf(c.In) && c.Pair.Local.Contains(q.Received.Dst) && (q.Tagged || !c.Enforced) &&
			(contains(c.Pair.Remote, q.Flow.OrigSrc) || contains(c.Pair.Remote, q.Flow.ReplySrc)) {
			return !q.ownedByAnother()
		}
	}
	return false
}

// stronger returns the stronger of two cases of evidence: the lower row of the table,
// where NoCase is none.
func stronger(a, b Case) Case {
	if a == NoCase || b != NoCase && b < a {
		return b
	}
	return a
}

// isUnwrapped reports whether the packet came out of an overlay device with the
// evidence of its carrier, from an address that the tunnel may send from, or as an
// error about a flow with such an address.
func (q *question) isUnwrapped() bool {
	for i := range q.Overlays {
		o := &q.Overlays[i]
		if !containsString(o.Devices, q.In) || !q.Verified && !(o.VTI && q.Tagged) {
			continue
		}
		if o.sends(q.Received.Src) || q.icmp() && q.Flow.Related && (o.sends(q.Flow.OrigSrc) || o.sends(q.Flow.ReplySrc)) {
			return true
		}
	}
	return false
}

// sends reports whether packets with that source may come out of the overlay's device.
func (o *Overlay) sends(a netip.Addr) bool {
	return o.Sources == nil || a.IsValid() && prefix.OverlapsAny(prefix.Single(a), o.Sources)
}
