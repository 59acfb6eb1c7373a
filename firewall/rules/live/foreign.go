package live

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// NATSources returns the addresses that other programs' SNAT rules map sources
// to, in all families. Case 8d needs them: packets mapped into a tunnel's local
// selector have no such source in any hook.
func NATSources(have map[xfrm.Family]Tables) []netip.Prefix {
	var found []netip.Prefix
	for _, family := range slices.Sorted(maps.Keys(have)) {
		for _, c := range have[family].Table(rules.NAT).Chains {
			if c.Ours() {
				continue
			}
			for _, r := range c.Rules {
				for _, option := range []string{"--to-source ", "--to "} {
					if _, rest, ok := strings.Cut(r.Raw, option); ok && (r.Target == "SNAT" || r.Target == "NETMAP") {
						word, _, _ := strings.Cut(rest, " ")
						found = append(found, natRange(word)...)
					}
				}
			}
		}
	}
	return found
}

// HasChains reports whether a table of some family has chains of xfrmfw.
func HasChains(have map[xfrm.Family]Tables, table rules.Table) bool {
	for _, tables := range have {
		if slices.ContainsFunc(tables.Table(table).Chains, Chain.Ours) {
			return true
		}
	}
	return false
}

// RewritesSources reports whether rules of other programs rewrite sources.
func RewritesSources(have map[xfrm.Family]Tables) bool {
	for _, tables := range have {
		for _, c := range tables.Table(rules.NAT).Chains {
			if !c.Ours() && slices.ContainsFunc(c.Rules, func(r Rule) bool {
				return r.Target == "SNAT" || r.Target == "NETMAP" || r.Target == "MASQUERADE"
			}) {
				return true
			}
		}
	}
	return false
}

// natRange reads the address, range or prefix of a SNAT or NETMAP rule, with or
// without ports. A range becomes the smallest prefix around it.
func natRange(word string) []netip.Prefix {
	if p, err := netip.ParsePrefix(word); err == nil {
		return []netip.Prefix{p.Masked()}
	}
	if rest, ok := strings.CutPrefix(word, "["); ok { // [fd00::1]:1000-2000
		word, _, _ = strings.Cut(rest, "]")
	} else if strings.Count(word, ":") == 1 { // 10.2.0.9:1000-2000
		word, _, _ = strings.Cut(word, ":")
	}
	low, high, isRange := strings.Cut(word, "-")
	first, err := netip.ParseAddr(low)
	if err != nil {
		return nil
	}
	if !isRange {
		return []netip.Prefix{prefix.Single(first)}
	}
	last, err := netip.ParseAddr(high)
	if err != nil || last.Is4() != first.Is4() {
		return []netip.Prefix{prefix.Single(first)}
	}
	p, err := first.Prefix(prefix.CommonBits(first, last))
	if err != nil {
		return nil
	}
	return []netip.Prefix{p}
}
