package firewall

import (
	"math"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// maxGates is how many prefixes a gate has at most: a packet that no guard is
// about meets that many rules in place of one, but none of what lies behind.
const maxGates = 4

// gates repeats a rule that leads to guards for each of the few prefixes within
// which all their remote selectors lie, as the source or the destination. So a
// packet between other addresses passes the guards by, and whatever is exempt
// from them need not be asked of it.
func (b *builder) gates(within []netip.Prefix, by direction, lead Rule) []Rule {
	lead.Purpose = PurposeDispatch
	var rules []Rule
	for _, p := range within {
		r := lead
		switch {
		case p.Bits() == 0:
		case by == bySource:
			r.Src = p
		default:
			r.Dst = p
		}
		rules = append(rules, r)
	}
	return rules
}

// guarding are the few prefixes within which the remote selectors of this
// family's guards lie. What pierces guards only ever takes from them.
func (b *builder) guarding() []netip.Prefix {
	if b.within == nil {
		keys := make([]netip.Prefix, 0, len(b.standing))
		for _, k := range b.byRemote.sorted {
			if !b.all[k.at].Pierce {
				keys = append(keys, k.key)
			}
		}
		b.within = gather(keys, maxGates)
	}
	return b.within
}

// part is some prefixes in their order and the narrowest one that holds them.
type part struct {
	cover netip.Prefix
	keys  []netip.Prefix
}

// gather returns at most so many prefixes, none within another, that hold all
// the given ones: what comes of parting the widest again and again, but no more
// of them than it takes to hold less than twice the addresses.
func gather(keys []netip.Prefix, most int) []netip.Prefix {
	if len(keys) == 0 {
		return nil
	}
	if !slices.IsSortedFunc(keys, xfrm.ComparePrefix) {
		keys = slices.Clone(keys)
		slices.SortFunc(keys, xfrm.ComparePrefix)
	}
	var tried [][]netip.Prefix
	parts := []part{{commonPrefix(keys), keys}}
	for {
		slices.SortStableFunc(parts, func(x, y part) int { return x.cover.Bits() - y.cover.Bits() })
		tried = append(tried, make([]netip.Prefix, len(parts)))
		for i, p := range parts {
			tried[len(parts)-1][i] = p.cover
		}
		// What is as wide as what holds it can't be parted.
		widest := slices.IndexFunc(parts, func(p part) bool {
			return p.keys[0].Bits() != p.cover.Bits()
		})
		if widest < 0 || len(parts) == most {
			break
		}
		lower, upper := parts[widest].halves()
		parts[widest] = lower
		parts = append(parts, upper)
	}
	least := share(tried[len(tried)-1])
	within := tried[slices.IndexFunc(tried, func(c []netip.Prefix) bool { return share(c) < 2*least })]
	slices.SortFunc(within, xfrm.ComparePrefix)
	return within
}

// halves parts what its cover holds at the next bit.
func (p part) halves() (lower, upper part) {
	low := netip.PrefixFrom(p.cover.Addr(), p.cover.Bits()+1)
	past, _ := slices.BinarySearchFunc(p.keys, low, func(k, low netip.Prefix) int {
		if low.Contains(k.Addr()) {
			return -1
		}
		return 1
	})
	lower.keys, upper.keys = p.keys[:past], p.keys[past:]
	lower.cover, upper.cover = commonPrefix(lower.keys), commonPrefix(upper.keys)
	return lower, upper
}

// share is how much of all addresses some prefixes hold.
func share(prefixes []netip.Prefix) float64 {
	sum := 0.0
	for _, p := range prefixes {
		sum += math.Ldexp(1, -p.Bits())
	}
	return sum
}

// commonPrefix is the narrowest prefix that holds all of some, which are sorted: so
// the first of them is the widest of those that begin where it does.
func commonPrefix(keys []netip.Prefix) netip.Prefix {
	first, last := keys[0], keys[len(keys)-1]
	return netip.PrefixFrom(first.Addr(), min(first.Bits(), commonBits(first.Addr(), last.Addr()))).Masked()
}

// overlapsAny reports whether a prefix has addresses in common with any of some.
func overlapsAny(p netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, p.Overlaps)
}
