package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// layout collects the chains of one family.
type layout struct {
	*firewall.Facts
	family xfrm.Family
	set    rules.Ruleset
	// have are the chains that were added.
	have map[rules.ChainKey]bool
	// guards and claims are those of the family.
	guards []*firewall.GuardFacts
	claims []*firewall.Claim
	// within are the few prefixes that hold all guarded remote selectors.
	within []netip.Prefix
	// names caches the names of chains that several guards share.
	names map[sharedKey]string
}

func newLayout(f *firewall.Facts, family xfrm.Family) *layout {
	l := &layout{Facts: f, family: family, have: make(map[rules.ChainKey]bool), names: make(map[sharedKey]string)}
	l.set.Family = family
	for i := range f.Guards {
		if g := &f.Guards[i]; g.Family() == family {
			l.guards = append(l.guards, g)
		}
	}
	for i := range f.Claims {
		if c := &f.Claims[i]; c.Pair.Family() == family {
			l.claims = append(l.claims, c)
		}
	}
	l.within = guardedPrefixes(l.guards)
	return l
}

// chain adds a chain. A chain that several facts share is added once.
func (l *layout) chain(table rules.Table, name string, list ...rules.Rule) {
	l.add(rules.Chain{Table: table, Name: name, Rules: rules.ListOf(list...)})
}

func (l *layout) add(chains ...rules.Chain) {
	for _, c := range chains {
		if key := (rules.ChainKey{Table: c.Table, Name: c.Name}); !l.have[key] {
			l.have[key] = true
			l.set.Chains = append(l.set.Chains, c)
		}
	}
}

func compareChains(x, y rules.Chain) int {
	if x.Table != y.Table {
		return cmp.Compare(x.Table.Order(), y.Table.Order())
	}
	return cmp.Compare(x.Name, y.Name)
}

func (l *layout) hook(table rules.Table, from, to string) {
	l.set.Hooks = append(l.set.Hooks, rules.Hook{Table: table, From: from, To: to})
}

// guardedPrefixes are the few prefixes that hold the remote selectors of guards.
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

// tree adds the chains of a tree.
func (l *layout) tree(s tree.Spec, entries []tree.Entry) {
	s.Family = l.family
	l.add(tree.Build(s, entries)...)
}

// entry is rules for packets within a prefix.
func entry(key netip.Prefix, rules ...rules.Rule) tree.Entry {
	return tree.Entry{Key: key, Rules: rules}
}

// sharedKey is a root of chains and the local selector that one of them is for.
type sharedKey struct {
	root  string
	local netip.Prefix
}

// sharedName names the chain of a root that all guards with a local selector share.
func (l *layout) sharedName(root string, local netip.Prefix) string {
	key := sharedKey{root, local}
	name, ok := l.names[key]
	if !ok {
		name = stableName(root, local.String())
		l.names[key] = name
	}
	return name
}

// stableName names a chain by words of its purpose, so that no other chain's
// coming and going renames it.
func stableName(root string, words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, " ")))
	return root + "-" + base64.RawURLEncoding.EncodeToString(sum[:])[:11]
}

// everything is the whole address space of the layout's family.
func (l *layout) everything() netip.Prefix {
	if l.family == xfrm.IPv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// ofFamily returns the prefixes of the layout's family.
func (l *layout) ofFamily(all []netip.Prefix) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range all {
		if xfrm.FamilyOf(p.Addr()) == l.family {
			list = append(list, p)
		}
	}
	return list
}

func (l *layout) icmp() xfrm.Proto {
	if l.family == xfrm.IPv6 {
		return xfrm.ICMPv6
	}
	return xfrm.ICMP
}

func (l *layout) ipInIP() xfrm.Proto {
	if l.family == xfrm.IPv6 {
		return xfrm.IPv6in
	}
	return xfrm.IPIP
}

// errorTypes are the ICMP errors, all of which quote the packet that they are about.
func (l *layout) errorTypes() []uint8 {
	if l.family == xfrm.IPv6 {
		return []uint8{1, 2, 3, 4}
	}
	return []uint8{3, 11, 12}
}

// encapPorts are the local ports of ESP in UDP, besides 4500, with an outer address
// of this family.
func (l *layout) encapPorts() []netip.AddrPort {
	var ports []netip.AddrPort
	for _, at := range l.EncapPorts {
		if xfrm.FamilyOf(at.Addr()) == l.family {
			ports = append(ports, at)
		}
	}
	return ports
}

// onWAN repeats a rule for every configured outer interface, or leaves it without
// one. set puts the interface in its place.
func (l *layout) onWAN(r rules.Rule, set func(*rules.Rule, string)) []rules.Rule {
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

func inBy(r *rules.Rule, name string) { r.In = name }

func outBy(r *rules.Rule, name string) { r.Out = name }
