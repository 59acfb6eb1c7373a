package program

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// maxGates is how many prefixes lead to the guards at most. A packet that no guard
// is about meets that many rules, and none of the look-ups behind.
const maxGates = 4

// Gates are the prefixes of each family that lead to the guards.
type Gates map[xfrm.Family][]netip.Prefix

// GatesOf returns the gates in the table of facts.
func GatesOf(f *firewall.Facts) Gates {
	remotes := make(map[xfrm.Family][]pair)
	for i := range f.Guards {
		if g := &f.Guards[i]; !g.Exception {
			remotes[g.Family()] = append(remotes[g.Family()], pair{remote: g.Remote.Masked()})
		}
	}
	gates := make(Gates)
	for family, pairs := range remotes {
		gates[family] = cover(pairs)
	}
	return gates
}

// gates are those of the options if they hold all remote prefixes.
func (b *builder) gates(f *family, remotes []pair) []netip.Prefix {
	known := b.options.Gates[f.Family]
	if len(remotes) == 0 {
		return nil
	}
	for _, p := range remotes {
		if !slices.ContainsFunc(known, func(g netip.Prefix) bool { return g.Bits() <= p.remote.Bits() && g.Contains(p.remote.Addr()) }) {
			return cover(remotes)
		}
	}
	return known
}

// cover returns at most maxGates prefixes that hold all remote prefixes. Neighbours
// that have the fewest bits in common are parted, if those are fewer than an eighth
// of the address, and gates of several are rounded to whole bytes: a tunnel more
// among many shall not change the rules.
func cover(pairs []pair) []netip.Prefix {
	list := make([]netip.Prefix, len(pairs))
	for i, p := range pairs {
		list[i] = p.remote
	}
	slices.SortFunc(list, xfrm.ComparePrefix)
	list = slices.Compact(list)
	if len(list) == 0 {
		return nil
	}
	cuts := make([]int, 0, len(list))
	for i := 1; i < len(list); i++ {
		if list[0].Addr().BitLen()/8 > common(list[i-1], list[i]).Bits() {
			cuts = append(cuts, i)
		}
	}
	slices.SortStableFunc(cuts, func(x, y int) int {
		return common(list[x-1], list[x]).Bits() - common(list[y-1], list[y]).Bits()
	})
	cuts = slices.Clone(cuts[:min(len(cuts), maxGates-1)])
	slices.Sort(cuts)
	var out []netip.Prefix
	for begin, i := 0, 0; begin < len(list); i++ {
		end := len(list)
		if i < len(cuts) {
			end = cuts[i]
		}
		gate := list[begin]
		for _, p := range list[begin:end] {
			gate = common(gate, p)
		}
		if end-begin > 1 {
			gate = rounded(gate)
		}
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Bits() <= gate.Bits() && o.Contains(gate.Addr()) }) {
			out = append(out, gate)
		}
		begin = end
	}
	return out
}

// rounded widens a prefix to 8, 16, 24 or 32 bits of IPv4, or a multiple of 16 bits
// of IPv6.
func rounded(p netip.Prefix) netip.Prefix {
	step := 8
	if !p.Addr().Is4() {
		step = 16
	}
	return netip.PrefixFrom(p.Addr(), p.Bits()/step*step).Masked()
}

// common returns the longest prefix that holds both.
func common(p, q netip.Prefix) netip.Prefix {
	for bits := min(p.Bits(), q.Bits()); bits > 0; bits-- {
		if c := netip.PrefixFrom(p.Addr(), bits).Masked(); c.Contains(q.Addr()) {
			return c
		}
	}
	return netip.PrefixFrom(p.Addr(), 0).Masked()
}
