package program

import (
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// owners are the sources of live tunnels of one prefix length.
type owners struct {
	suffix string
	bits   int
}

// own matches packets out of an SA of the owner of their source, owned those with a
// source that has an owner. A tunnel to everywhere owns all sources.
func (o owners) own(f *family, depth uint8) sets.Term {
	fields := []sets.Field{sets.F(sets.InReqid).At(depth)}
	if o.bits > 0 {
		fields = append(fields, sets.F(f.src).Masked(o.bits))
	}
	return sets.In{Fields: fields, Set: "own" + o.suffix}
}

func (o owners) owned(f *family) []sets.Term {
	if o.bits == 0 {
		return nil
	}
	return []sets.Term{sets.In{Fields: []sets.Field{sets.F(f.src).Masked(o.bits)}, Set: "owned" + o.suffix}}
}

// ownerSets adds two sets for each prefix length: sources with the reqid of their
// owner, and sources alone.
func (b *builder) ownerSets(f *family) []owners {
	by := make(map[int][]*firewall.Claim)
	for i := range b.f.Claims {
		c := &b.f.Claims[i]
		if !c.PolicyOnly && c.Live && f.has(c.Pair.Remote.Addr()) {
			by[c.Pair.Remote.Bits()] = append(by[c.Pair.Remote.Bits()], c)
		}
	}
	var all []owners
	for bits, claims := range by {
		o := owners{fmt.Sprintf("%s_%d", f.suffix, bits), bits}
		own := sets.Set{Name: "own" + o.suffix, Comment: "cases 1b and 7b"}
		owned := sets.Set{Name: "owned" + o.suffix, Comment: "cases 1b and 7b"}
		for _, c := range claims {
			source := sets.AppendAddr(nil, c.Pair.Remote.Addr())
			if bits == 0 {
				source = nil
			}
			own.Elements = append(own.Elements, sets.Element{Key: sets.Key(slices.Concat(sets.AppendUint(nil, c.In.Reqid), source))})
			owned.Elements = append(owned.Elements, sets.Element{Key: sets.Key(source)})
		}
		if bits > 0 {
			b.set(own, sets.InReqid, f.src)
			b.set(owned, f.src)
		} else {
			b.set(own, sets.InReqid)
		}
		all = append(all, o)
	}
	slices.SortFunc(all, func(x, y owners) int { return y.bits - x.bits })
	return all
}
