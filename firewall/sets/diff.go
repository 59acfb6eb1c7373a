package sets

import "slices"

// Diff returns the change that leads from the table that is there to the one
// that is wanted. Elements that are in both stay with their counters, and so do
// rules. Where a rule that is there has no handle its chain is written anew.
// Elements that rules added to dynamic sets stay.
func Diff(have, want Table) Change {
	d := differ{have: have, want: want}
	switch {
	case have.Name == "" && want.Name == "":
		return Change{}
	case want.Name == "":
		return Change{Table: have.Name, Switch: []Op{DeleteTable{have.Name}}}
	case have.Name == "":
		return d.whole(nil)
	case have.Name != want.Name || !mayBecome(have.Flags, want.Flags):
		return d.whole([]Op{DeleteTable{have.Name}})
	}
	d.Table = want.Name
	d.run()
	return d.Change
}

// mayBecome reports whether the kernel changes the flags of a table that exists.
// It gives an owner only to a table that has lost one and kept the flag Persist,
// and takes the owner from none (nf_tables_updtable).
func mayBecome(have, want TableFlags) bool {
	const ownership = Owner | Persist
	h, w := have&ownership, want&ownership
	return h == w || h == Persist && w == ownership
}

type differ struct {
	have, want Table
	Change
	// The sets and chains that are deleted and made anew under their name.
	remadeSets, remadeChains map[string]bool
}

// whole makes the wanted table from nothing, in one transaction where it can be.
func (d *differ) whole(before []Op) Change {
	c := Change{Table: d.want.Name}
	c.Switch = append(before, AddTable{Table{Name: d.want.Name, Comment: d.want.Comment, Flags: d.want.Flags}})
	if len(before) == 0 {
		// Sets that close may take several transactions before the first rule: they do
		// nothing yet.
		c.Grow, c.Switch = c.Switch, nil
	}
	first := &c.Grow
	if len(before) != 0 {
		first = &c.Switch
	}
	for _, s := range d.want.Sets {
		*first = append(*first, AddSet{s.Definition()})
	}
	for _, chain := range d.want.Chains {
		*first = append(*first, AddChain{Chain{Name: chain.Name, Comment: chain.Comment, Base: chain.Base}})
	}
	for _, s := range d.want.Sets {
		switch ops := addAll(s); {
		case s.isLate():
			c.Shrink = append(c.Shrink, ops...)
		default:
			*first = append(*first, ops...)
		}
	}
	for _, chain := range d.want.Chains {
		for _, r := range chain.Rules {
			c.Switch = append(c.Switch, AddRule{Chain: chain.Name, Rule: r})
		}
	}
	return c
}

// isLate reports whether elements of the set are added under the new rules: those
// that open, and those of maps, which jump to chains with rules in place.
func (s Set) isLate() bool { return s.Opens || s.Verdicts }

func addAll(s Set) []Op {
	if s.Dynamic || len(s.Elements) == 0 {
		return nil
	}
	return []Op{AddElements{s.Definition(), s.Elements}}
}

func (d *differ) run() {
	if d.have.Flags != d.want.Flags {
		d.Switch = append(d.Switch, SetFlags{d.want.Name, d.want.Flags})
	}
	d.findRemade()
	oldSets, newSets := byName(d.have.Sets, setName), byName(d.want.Sets, setName)
	oldChains, newChains := byName(d.have.Chains, chainName), byName(d.want.Chains, chainName)

	for _, s := range d.want.Sets {
		if oldSets[s.Name] == nil {
			d.Grow = append(d.Grow, AddSet{s.Definition()})
		}
	}
	for _, c := range d.want.Chains {
		if oldChains[c.Name] == nil {
			d.Grow = append(d.Grow, addChain(c))
		}
	}
	d.rules(oldChains, newChains)
	d.elements(oldSets)
	for _, s := range d.have.Sets {
		if newSets[s.Name] == nil && !d.remadeSets[s.Name] {
			d.Shrink = append(d.Shrink, DeleteSet{s.Name})
		}
	}
	// Elements of a map that goes jump to chains that go.
	for _, c := range d.have.Chains {
		if newChains[c.Name] == nil {
			d.Shrink = append(d.Shrink, DeleteChain{c.Name})
		}
	}
}

func byName[T any](list []T, name func(*T) string) map[string]*T {
	m := make(map[string]*T, len(list))
	for i := range list {
		m[name(&list[i])] = &list[i]
	}
	return m
}

func setName(s *Set) string     { return s.Name }
func chainName(c *Chain) string { return c.Name }

func addChain(c Chain) Op { return AddChain{Chain{Name: c.Name, Comment: c.Comment, Base: c.Base}} }

// findRemade finds sets and chains with another definition.
func (d *differ) findRemade() {
	d.remadeSets, d.remadeChains = make(map[string]bool), make(map[string]bool)
	oldSets, oldChains := byName(d.have.Sets, setName), byName(d.have.Chains, chainName)
	for _, s := range d.want.Sets {
		if old := oldSets[s.Name]; old != nil && !old.sameDefinition(s) {
			d.remadeSets[s.Name] = true
		}
	}
	for _, c := range d.want.Chains {
		if old := oldChains[c.Name]; old != nil && (old.Base != c.Base || old.Comment != c.Comment) {
			d.remadeChains[c.Name] = true
		}
	}
	for _, s := range d.have.Sets {
		for _, e := range s.Elements {
			if d.remadeChains[e.Verdict.Chain] {
				// A chain can't be deleted while an element jumps to it.
				d.remadeSets[s.Name] = true
			}
		}
	}
}

// rules changes the rules of all chains. All that refers to a set or a chain that
// is made anew is deleted before and added after.
func (d *differ) rules(oldChains, newChains map[string]*Chain) {
	var deletes, remake, adds []Op
	for _, c := range d.have.Chains {
		if newChains[c.Name] == nil {
			deletes = append(deletes, FlushChain{c.Name})
		}
	}
	for _, c := range d.want.Chains {
		old := oldChains[c.Name]
		switch {
		case old == nil:
			adds = append(adds, addRules(c)...)
		case d.remadeChains[c.Name]:
			deletes = append(deletes, FlushChain{c.Name})
			remake = append(remake, DeleteChain{c.Name}, addChain(c))
			adds = append(adds, addRules(c)...)
		default:
			del, add := d.chain(old, &c)
			deletes, adds = append(deletes, del...), append(adds, add...)
		}
	}
	// Maps go before the chains to which their elements jump, and come after them.
	var refill []Op
	for _, s := range d.have.Sets {
		if d.remadeSets[s.Name] {
			deletes = append(deletes, DeleteSet{s.Name})
		}
	}
	for _, s := range d.want.Sets {
		if d.remadeSets[s.Name] {
			old, _ := d.have.Set(s.Name)
			remake = append(remake, AddSet{s.Definition()})
			refill = append(refill, addAll(carry(old, s))...)
		}
	}
	d.Switch = append(append(append(append(d.Switch, deletes...), remake...), refill...), adds...)
}

func addRules(c Chain) []Op {
	ops := make([]Op, len(c.Rules))
	for i, r := range c.Rules {
		ops[i] = AddRule{Chain: c.Name, Rule: r}
	}
	return ops
}

// chain finds the rules of a chain that stay, deletes the others and adds the
// wanted ones in their place.
func (d *differ) chain(old, want *Chain) (deletes, adds []Op) {
	stay := d.staying(old.Rules, want.Rules)
	for _, r := range old.Rules {
		if r.Handle == 0 && (len(stay) < len(old.Rules) || len(stay) < len(want.Rules)) {
			return []Op{FlushChain{want.Name}}, addRules(*want)
		}
	}
	next := 0
	for i, r := range old.Rules {
		if next < len(stay) && stay[next].old == i {
			next++
			continue
		}
		deletes = append(deletes, DeleteRule{want.Name, r})
	}
	next = 0
	for i, r := range want.Rules {
		if next < len(stay) && stay[next].want == i {
			next++
			continue
		}
		before := uint64(0)
		if next < len(stay) {
			before = old.Rules[stay[next].old].Handle
		}
		adds = append(adds, AddRule{Chain: want.Name, Rule: r, Before: before})
	}
	return deletes, adds
}

type pair struct{ old, want int }

// staying returns the longest common subsequence of two lists of rules, but for
// those that refer to objects made anew.
func (d *differ) staying(old, want []Rule) []pair {
	same := func(i, j int) bool { return !d.refersToRemade(old[i]) && old[i].Equal(want[j]) }
	begin := 0
	for begin < len(old) && begin < len(want) && same(begin, begin) {
		begin++
	}
	var stay []pair
	for i := range begin {
		stay = append(stay, pair{i, i})
	}
	rows, cols := len(old)-begin, len(want)-begin
	// longest[i][j] is the length for old[begin+i:] and want[begin+j:].
	longest := make([][]int, rows+1)
	equal := make([][]bool, rows)
	for i := range longest {
		longest[i] = make([]int, cols+1)
	}
	for i := rows - 1; i >= 0; i-- {
		equal[i] = make([]bool, cols)
		for j := cols - 1; j >= 0; j-- {
			if equal[i][j] = same(begin+i, begin+j); equal[i][j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < rows && j < cols; {
		switch {
		case equal[i][j]:
			stay = append(stay, pair{begin + i, begin + j})
			i, j = i+1, j+1
		case longest[i+1][j] >= longest[i][j+1]:
			i++
		default:
			j++
		}
	}
	return stay
}

func (d *differ) refersToRemade(r Rule) bool {
	if len(d.remadeSets)+len(d.remadeChains) == 0 {
		return false
	}
	return slices.ContainsFunc(r.Terms, func(t Term) bool {
		switch t := t.(type) {
		case In:
			return d.remadeSets[t.Set]
		case Dispatch:
			return d.remadeSets[t.Map]
		case Update:
			return d.remadeSets[t.Set]
		case Verdict:
			return d.remadeChains[t.Chain]
		}
		return false
	})
}
