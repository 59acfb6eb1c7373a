package program

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
)

// ranks gives every guard and exception its place in the order. Guards all say
// drop, so their order among each other does not matter. A rank is judged
// exceptions first: an exception has the rank of the earlier guards that it
// overlaps plus one, and a guard that of the earlier exceptions that it overlaps.
// Without exceptions all is of rank 0.
func ranks(guards []firewall.GuardFacts) []int {
	out := make([]int, len(guards))
	var exceptions []int
	for i := range guards {
		g := &guards[i]
		if g.Exception {
			for j := range i {
				if !guards[j].Exception && overlap(&guards[j], g) {
					out[i] = max(out[i], out[j]+1)
				}
			}
			exceptions = append(exceptions, i)
			continue
		}
		for _, j := range exceptions {
			if overlap(&guards[j], g) {
				out[i] = max(out[i], out[j])
			}
		}
	}
	return out
}

// overlap reports whether some packet may be of both guards. Local selectors tell none apart,
// because an ICMP error about a packet from one comes from any address (case 8c).
func overlap(x, y *firewall.GuardFacts) bool {
	overlaps := func(p, q netip.Prefix) bool { return p.Addr().Is4() == q.Addr().Is4() && p.Overlaps(q) }
	return overlaps(x.Remote, y.Remote) && (x.Proto == 0 || y.Proto == 0 || x.Proto == y.Proto)
}
