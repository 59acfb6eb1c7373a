package guard

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Line is a network that a route by an interface leads to, or led to, where guards would
// cut the network off there: a leased line with a tunnel as its backup. A routing protocol
// moves the route between the two at any time, and at another time at the other end, so
// packets by the line are no spoof while the tunnel has the route.
type Line struct {
	Network netip.Prefix
	// Device is no uplink's name, and no tunnel device's.
	Device string
	// Expires is in seconds of the memory's own clock, 0 for a line of a route that stands.
	Expires int64
}

// Compare orders lines by network, then by device.
func (l Line) Compare(o Line) int {
	return cmp.Or(xfrm.ComparePrefix(l.Network, o.Network), cmp.Compare(l.Device, o.Device))
}

// maxLines bounds the memory of lines. A full one refuses new lines: no router can push
// out another's.
const maxLines = 4096

// RememberLines returns the memory of lines after a look at the kernel, in order: those in
// it that have not expired, and those of routes that stand.
func RememberLines(memory, standing []Line, c Config, now int64) []Line {
	if c.Forget {
		return nil
	}
	var lines []Line
	for _, l := range memory {
		if l.Expires > now {
			lines = append(lines, l)
		}
	}
	slices.SortFunc(lines, func(a, b Line) int { return cmp.Or(a.Compare(b), cmp.Compare(b.Expires, a.Expires)) })
	lines = slices.CompactFunc(lines, func(a, b Line) bool { return a.Compare(b) == 0 }) // the longest-lived
	for _, l := range standing {
		l.Expires = now + cmp.Or(c.Remember, DefaultRemember)
		at, held := slices.BinarySearchFunc(lines, l, Line.Compare)
		switch {
		case held:
			lines[at].Expires = max(lines[at].Expires, l.Expires)
		case len(lines) < maxLines:
			lines = slices.Insert(lines, at, l)
		}
	}
	return lines
}
