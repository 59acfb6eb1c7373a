// Package layout has the parts that all cases share: the names of all chains (chains.go),
// the rules that match a fact (facts.go), the chains that drop (drops.go), and the Layout
// that collects the chains of one family.
package layout

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Layout collects the chains of one family.
type Layout struct {
	*firewall.Facts
	Family xfrm.Family
	// Set holds the chains and hooks so far, in the order in which they came.
	Set rules.Ruleset
	// have are the chains that were added.
	have map[rules.ChainKey]bool
	// FamilyGuards and FamilyClaims are those facts that are the family's.
	FamilyGuards []*firewall.GuardFacts
	FamilyClaims []*firewall.Claim
	// Within are the few prefixes that hold all guarded remote selectors.
	Within []netip.Prefix
	// names caches the names of chains that several guards share.
	names map[sharedKey]string
}

// New returns the layout of a family without chains.
func New(f *firewall.Facts, family xfrm.Family) *Layout {
	l := &Layout{Facts: f, Family: family, have: make(map[rules.ChainKey]bool), names: make(map[sharedKey]string)}
	l.Set.Family = family
	for i := range f.Guards {
		if g := &f.Guards[i]; g.Family() == family {
			l.FamilyGuards = append(l.FamilyGuards, g)
		}
	}
	for i := range f.Claims {
		if c := &f.Claims[i]; c.Pair.Family() == family {
			l.FamilyClaims = append(l.FamilyClaims, c)
		}
	}
	l.Within = guardedPrefixes(l.FamilyGuards)
	return l
}

// Chain adds a chain. A chain that several facts share is added once.
func (l *Layout) Chain(table rules.Table, name string, list ...rules.Rule) {
	l.Add(rules.Chain{Table: table, Name: name, Rules: rules.ListOf(list...)})
}

// Add adds chains. One that was added before stays.
func (l *Layout) Add(chains ...rules.Chain) {
	for _, c := range chains {
		if key := (rules.ChainKey{Table: c.Table, Name: c.Name}); !l.have[key] {
			l.have[key] = true
			l.Set.Chains = append(l.Set.Chains, c)
		}
	}
}

// Holds reports whether a chain was added.
func (l *Layout) Holds(table rules.Table, name string) bool {
	return l.have[rules.ChainKey{Table: table, Name: name}]
}

// Ruleset returns the chains that were added, in their order and without those that
// nothing leads to.
func (l *Layout) Ruleset() rules.Ruleset {
	slices.SortFunc(l.Set.Chains, CompareChains)
	rules.Prune(&l.Set)
	return l.Set
}

// CompareChains orders chains by table and name.
func CompareChains(x, y rules.Chain) int {
	if x.Table != y.Table {
		return cmp.Compare(x.Table.Order(), y.Table.Order())
	}
	return cmp.Compare(x.Name, y.Name)
}

// Hook leads from a chain of the kernel to one of ours.
func (l *Layout) Hook(table rules.Table, from, to string) {
	l.Set.Hooks = append(l.Set.Hooks, rules.Hook{Table: table, From: from, To: to})
}

// guardedPrefixes are the few prefixes that hold the remote Selectors of guards.
// Exceptions only take from them.
func guardedPrefixes(guards []*firewall.GuardFacts) []netip.Prefix {
	var keys []netip.Prefix
	for _, g := range guards {
		if !g.Exception {
			keys = append(keys, g.Remote.Masked())
		}
	}
	return prefix.Cover(keys, tree.MaxPrefilter)
}

// Tree adds the chains of a tree.
func (l *Layout) Tree(s tree.Spec, entries []tree.Entry) {
	s.Family = l.Family
	l.Add(tree.Build(s, entries)...)
}

// Entry is rules for packets within a prefix.
func Entry(key netip.Prefix, rules ...rules.Rule) tree.Entry {
	return tree.Entry{Key: key, Rules: rules}
}

// sharedKey is a root of chains and the local selector that one of them is for.
type sharedKey struct {
	root  string
	local netip.Prefix
}

// SharedName names the chain of a root that all guards with a local selector share.
func (l *Layout) SharedName(root string, local netip.Prefix) string {
	key := sharedKey{root, local}
	name, ok := l.names[key]
	if !ok {
		name = StableName(root, local.String())
		l.names[key] = name
	}
	return name
}

// StableName names a chain by words of its purpose, so that no other chain's
// coming and going renames it.
func StableName(root string, words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, " ")))
	return root + "-" + base64.RawURLEncoding.EncodeToString(sum[:])[:11]
}

// Everything is the whole address space of the layout's family.
func (l *Layout) Everything() netip.Prefix {
	if l.Family == xfrm.IPv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// OfFamily returns the prefixes of the layout's family.
func (l *Layout) OfFamily(all []netip.Prefix) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range all {
		if xfrm.FamilyOf(p.Addr()) == l.Family {
			list = append(list, p)
		}
	}
	return list
}

// ICMP and IPInIP are the family's own protocols of these kinds.
func (l *Layout) ICMP() xfrm.Proto {
	if l.Family == xfrm.IPv6 {
		return xfrm.ICMPv6
	}
	return xfrm.ICMP
}

func (l *Layout) IPInIP() xfrm.Proto {
	if l.Family == xfrm.IPv6 {
		return xfrm.IPv6in
	}
	return xfrm.IPIP
}

// ErrorTypes are the ICMP errors, all of which quote the packet that they are about.
func (l *Layout) ErrorTypes() []uint8 {
	if l.Family == xfrm.IPv6 {
		return []uint8{1, 2, 3, 4}
	}
	return []uint8{3, 11, 12}
}

// FamilyEncapPorts are the local ports of ESP in UDP, besides 4500, with an outer address
// of this family.
func (l *Layout) FamilyEncapPorts() []netip.AddrPort {
	var ports []netip.AddrPort
	for _, at := range l.EncapPorts {
		if xfrm.FamilyOf(at.Addr()) == l.Family {
			ports = append(ports, at)
		}
	}
	return ports
}

// OnWAN repeats a rule for every configured outer interface, or leaves it without
// one. set is InBy or OutBy.
func (l *Layout) OnWAN(r rules.Rule, set func(*rules.Rule, string)) []rules.Rule {
	if len(l.WAN) == 0 {
		return []rules.Rule{r}
	}
	rules := make([]rules.Rule, len(l.WAN))
	for i, name := range l.WAN {
		rules[i] = r
		set(&rules[i], name)
	}
	return rules
}

// InBy and OutBy match the interface by which a packet comes or leaves.
func InBy(r *rules.Rule, name string)  { r.In = name }
func OutBy(r *rules.Rule, name string) { r.Out = name }
