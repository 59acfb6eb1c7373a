package program

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

type builder struct {
	f       *firewall.Facts
	options Options
	table   sets.Table
	of      map[*family]*relations
}

func (b *builder) chain(name, comment string, rules ...sets.Rule) {
	b.table.Chains = append(b.table.Chains, sets.Chain{Name: name, Comment: comment, Rules: rules})
}

func (b *builder) base(name, comment string, base sets.Base, rules ...sets.Rule) {
	b.table.Chains = append(b.table.Chains, sets.Chain{Name: name, Comment: comment, Base: base, Rules: rules})
}

// set adds a set with elements in any order.
func (b *builder) set(s sets.Set, kinds ...sets.FieldKind) {
	for _, k := range kinds {
		s.Key = append(s.Key, sets.F(k))
	}
	slices.SortFunc(s.Elements, sets.Element.Compare)
	s.Elements = slices.CompactFunc(s.Elements, func(x, y sets.Element) bool { return x.Compare(y) == 0 })
	b.table.Sets = append(b.table.Sets, s)
}

func (b *builder) tag() uint32 { return b.f.Marks.Tag }

func (b *builder) verified() uint32 { return b.f.Marks.Verified }

func (b *builder) setBits(bits uint32) sets.Term { return sets.SetMark{Value: bits, Mask: bits} }

func (b *builder) clearBits(bits uint32) sets.Term { return sets.SetMark{Mask: bits} }

// isVerified and isTagged match packets with the bit.
func (b *builder) isVerified() sets.Term { return sets.AllBits(sets.Mark, uint64(b.verified())) }

func (b *builder) unverified() sets.Term { return sets.NoBit(sets.Mark, uint64(b.verified())) }

func (b *builder) isTagged() sets.Term { return sets.AllBits(sets.Mark, uint64(b.tag())) }

// Options say how the facts are laid out.
type Options struct {
	// BesideRules is true while the rules of the iptables engine stand too, for the time of a
	// change of the engine: TAG is left on packets for them.
	BesideRules bool
	// Gates are those of a table in force. They are taken where they hold all remote
	// prefixes, so that the rules of a few tunnels are among those of all.
	Gates Gates
}
