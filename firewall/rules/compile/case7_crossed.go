package compile

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
)

const (
	// knownLeaf is how many rules of known stand in one chain.
	knownLeaf = 64
	// knownPieces is how many chains hold the reqids that no outer address parts.
	knownPieces = 64
)

// knownSource is a reqid and the outer address that its packets come from, as rules
// of the layout's family see it.
type knownSource struct {
	outer netip.Addr
	reqid uint32
}

// known lays out case 7: it drops packets of a known reqid that no claim verified.
// Only a peer with a tunnel of its own can send such packets, but it can send many: a
// tree over the outer source leads them to their reqid. The tree may lead past it,
// because a state's end may have moved since, and not all states are in tunnel mode.
// So a packet that returns from the tree passes all rules, one after the other.
//
// The rules of reqids set VERIFIED, which no packet has that comes here, and one rule
// drops packets that have it then. Were each to lead to the chain that drops, commits
// of iptables-nft would cost more: the kernel follows each jump of a table in each of
// them, as often as there are ways to it (net/netfilter/nf_tables_api.c,
// nft_chain_validate).
func (l *cases) known() {
	var sources []knownSource
	var rest []uint32
	for _, k := range l.Known {
		if k.Outer.IsValid() {
			sources = append(sources, knownSource{prefix.InFamily(k.Outer, l.Family), k.Reqid})
		} else {
			rest = append(rest, k.Reqid)
		}
	}
	if len(sources)+len(rest) == 0 { // nothing leads here then
		l.Chain(rules.Mangle, layout.ChainKnown)
		return
	}
	found := rules.Rule{Mark: layout.Has(l.Marks.Verified), Target: layout.Drop(rules.PurposeCrossed), Purpose: rules.PurposeDispatch, Case: firewall.Case7}
	if len(sources)+len(rest) <= knownLeaf {
		l.Chain(rules.Mangle, layout.ChainKnown, append(knownRules(append(rest, reqidsOf(sources)...), l.Marks), found)...)
		return
	}
	slices.SortFunc(sources, func(x, y knownSource) int {
		return cmp.Or(x.outer.Compare(y.outer), cmp.Compare(x.reqid, y.reqid))
	})
	sources = slices.Compact(sources)
	sources, rest = partable(sources, rest)
	var root []rules.Rule
	lead := func(chain string) {
		root = append(root, rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: chain}, Purpose: rules.PurposeDispatch})
	}
	if len(sources) > 0 {
		lead(layout.ChainKnownFrom)
		root = append(root, found)
		l.knownNode(layout.ChainKnownFrom, 0, sources, 0, lead)
	}
	var pieces [knownPieces][]uint32
	for _, reqid := range rest {
		pieces[reqid%knownPieces] = append(pieces[reqid%knownPieces], reqid)
	}
	for i, piece := range pieces {
		if len(piece) > 0 {
			name := layout.ChainKnown + "-" + strconv.Itoa(i)
			l.Chain(rules.Mangle, name, knownRules(piece, l.Marks)...)
			lead(name)
		}
	}
	l.Chain(rules.Mangle, layout.ChainKnown, append(root, found)...)
}

// partable moves sources with an outer address in common that are more than a chain's
// worth, as behind a peer's NAT, to the rest: no tree parts them.
func partable(sources []knownSource, rest []uint32) ([]knownSource, []uint32) {
	kept := sources[:0]
	for len(sources) > 0 {
		n := 1
		for n < len(sources) && sources[n].outer == sources[0].outer {
			n++
		}
		if n > knownLeaf {
			rest = append(rest, reqidsOf(sources[:n])...)
		} else {
			kept = append(kept, sources[:n]...)
		}
		sources = sources[n:]
	}
	return kept, rest
}

// knownNode adds the chain for sources, and the chains below it. The sources are sorted,
// and their outer addresses have a prefix of that length in common. It tells lead of each
// chain that holds their rules.
func (l *cases) knownNode(name string, length int, sources []knownSource, level int, lead func(chain string)) {
	first, last := sources[0].outer, sources[len(sources)-1].outer
	n := len(sources)
	if n <= knownLeaf || first == last || level == tree.MaxLevels {
		l.Chain(rules.Mangle, name, knownRules(reqidsOf(sources), l.Marks)...)
		if level > 0 { // the root itself is led to first
			lead(name)
		}
		return
	}
	step := min(4, max(1, bits.Len(uint(4*n/(5*knownLeaf)))))
	length = min(max(length, prefix.CommonBits(first, last))+step, first.BitLen())
	var leads []rules.Rule
	for len(sources) > 0 {
		part := netip.PrefixFrom(sources[0].outer, length).Masked()
		n := 1
		for n < len(sources) && part.Contains(sources[n].outer) {
			n++
		}
		below := tree.NodeName(layout.ChainKnownFrom, part)
		leads = append(leads, rules.Rule{
			Policy: rules.PolicyMatch{Dir: rules.PolicyIn, TunnelSrc: part}, Target: rules.Target{Verb: rules.Goto, Chain: below}, Purpose: rules.PurposeDispatch,
		})
		l.knownNode(below, length, sources[:n], level+1, lead)
		sources = sources[n:]
	}
	l.Chain(rules.Mangle, name, leads...)
}

func reqidsOf(sources []knownSource) []uint32 {
	reqids := make([]uint32, len(sources))
	for i, s := range sources {
		reqids[i] = s.reqid
	}
	return reqids
}

// knownRules set VERIFIED on packets of some reqids.
func knownRules(reqids []uint32, m firewall.Marks) []rules.Rule {
	slices.Sort(reqids)
	reqids = slices.Compact(reqids)
	list := make([]rules.Rule, 0, len(reqids)+1)
	for _, reqid := range reqids {
		list = append(list, rules.Rule{
			Policy: rules.PolicyMatch{Dir: rules.PolicyIn, Reqid: reqid, HasReqid: true},
			Target: layout.SetMark(m.Verified, m.Verified), Purpose: rules.PurposeDispatch,
		})
	}
	return list
}
