package firewall

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// knownLeaf is how many rules of known stand in one chain.
const knownLeaf = 64

// knownPieces is in how many chains those of known stand that no outer address
// parts.
const knownPieces = 64

// source is a reqid and where its packets come from.
type source struct {
	// outer is the other end's outer address as this family's rules see it.
	outer netip.Addr
	reqid uint32
}

// known drops what came out of a tunnel that we know and that none of its rules
// verified. Only a peer with a tunnel of its own can send such packets, but it can
// send many: a tree over the outer source leads them to their reqid. It may lead
// past it, as a state's end may have moved since, and not all states are in tunnel
// mode. So who comes back from the tree passes all rules, one after the other: who
// has a reqid that is known is dropped in any case.
//
// The rules of reqids set VERIFIED, which no packet has that comes here, and what
// has it then is dropped. Were each to lead to the chain that drops, iptables-nft's
// commits would cost more: the kernel follows each jump of a table in each of them,
// as often as there are ways to it (net/netfilter/nf_tables_api.c,
// nft_chain_validate).
func (b *builder) known() {
	sources := make([]source, 0, len(b.Set.Tunnels))
	var rest []uint32
	for i := range b.Set.Tunnels {
		t := &b.Set.Tunnels[i]
		switch {
		case b.uncertain[t.Reqid]:
		case t.Mode == xfrm.TunnelMode && specified(t.Remote):
			sources = append(sources, source{inFamily(t.Remote, b.family), t.Reqid})
		default:
			rest = append(rest, t.Reqid)
		}
	}
	if len(sources)+len(rest) == 0 { // nor does anything lead here then
		b.chain(Mangle, chainKnown)
		return
	}
	found := Rule{Mark: has(b.Config.Marks.Verified), Target: drop(PurposeCrossed), Purpose: PurposeDispatch}
	if len(sources)+len(rest) <= knownLeaf {
		b.knownPiece(chainKnown, append(rest, reqidsOf(sources)...), found)
		return
	}
	slices.SortFunc(sources, func(x, y source) int {
		return cmp.Or(x.outer.Compare(y.outer), cmp.Compare(x.reqid, y.reqid))
	})
	sources = slices.Compact(sources)
	sources, rest = partable(sources, rest)
	var root []Rule
	lead := func(chain string) {
		root = append(root, Rule{Target: Target{Verb: Jump, Chain: chain}, Purpose: PurposeDispatch})
	}
	if len(sources) > 0 {
		lead(chainKnownFrom)
		root = append(root, found)
		b.knownNode(chainKnownFrom, 0, sources, 0, lead)
	}
	var pieces [knownPieces][]uint32
	for _, reqid := range rest {
		pieces[reqid%knownPieces] = append(pieces[reqid%knownPieces], reqid)
	}
	for i, piece := range pieces {
		if len(piece) > 0 {
			name := chainKnown + "-" + strconv.Itoa(i)
			b.knownPiece(name, piece)
			lead(name)
		}
	}
	b.chain(Mangle, chainKnown, append(root, found)...)
}

// partable moves those with an outer address in common that are more than a
// chain's worth, as behind a peer's NAT, to the rest: no tree parts them.
func partable(sources []source, rest []uint32) ([]source, []uint32) {
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

// knownNode makes the chain for sources, which are sorted and whose outer
// addresses have a prefix of that length in common, and those below it. It tells
// lead of each chain that holds their rules.
func (b *builder) knownNode(name string, length int, sources []source, level int, lead func(chain string)) {
	first, last := sources[0].outer, sources[len(sources)-1].outer
	n := len(sources)
	if n <= knownLeaf || first == last || level == maxLevels {
		b.knownPiece(name, reqidsOf(sources))
		if level > 0 { // the root itself is led to first
			lead(name)
		}
		return
	}
	step := min(4, max(1, bits.Len(uint(4*n/(5*knownLeaf)))))
	length = min(max(length, commonBits(first, last))+step, first.BitLen())
	var gates []Rule
	for len(sources) > 0 {
		part := netip.PrefixFrom(sources[0].outer, length).Masked()
		n := 1
		for n < len(sources) && part.Contains(sources[n].outer) {
			n++
		}
		below := nodeName(chainKnownFrom, part)
		gates = append(gates, Rule{
			Policy: PolicyMatch{Dir: PolicyIn, TunnelSrc: part}, Target: Target{Verb: Goto, Chain: below}, Purpose: PurposeDispatch,
		})
		b.knownNode(below, length, sources[:n], level+1, lead)
		sources = sources[n:]
	}
	b.chain(Mangle, name, gates...)
}

func reqidsOf(sources []source) []uint32 {
	reqids := make([]uint32, len(sources))
	for i, s := range sources {
		reqids[i] = s.reqid
	}
	return reqids
}

// knownPiece makes a chain that finds what came out of these reqids' states, and
// ends with the other rules.
func (b *builder) knownPiece(name string, reqids []uint32, more ...Rule) {
	slices.Sort(reqids)
	reqids = slices.Compact(reqids)
	b.set.Chains = append(b.set.Chains, Chain{Mangle, name, b.memo.known(name, reqids, func() []Rule {
		rules := make([]Rule, 0, len(reqids)+len(more))
		for _, reqid := range reqids {
			rules = append(rules, Rule{
				Policy: PolicyMatch{Dir: PolicyIn, Reqid: reqid, HasReqid: true},
				Target: b.markVerified(), Purpose: PurposeDispatch,
			})
		}
		return append(rules, more...)
	})})
}
