package sets

// elements changes the elements of all sets that stay, and fills the new ones.
func (d *differ) elements(old map[string]*Set) {
	for _, s := range d.want.Sets {
		if s.Dynamic || d.remadeSets[s.Name] {
			continue
		}
		was := old[s.Name]
		if was == nil {
			d.place(s, addAll(s), nil)
			continue
		}
		c := compareElements(was.Elements, s.Elements)
		if s.Interval && len(c.gone) > 0 && len(c.fresh) > 0 {
			// A range may overlap one that goes, and the kernel refuses overlaps.
			c.before, c.after = append(c.before, c.gone...), append(c.after, c.fresh...)
			c.gone, c.fresh = nil, nil
		}
		gone := appendElements(nil, s, c.gone, deleteElements)
		fresh := appendElements(nil, s, c.fresh, addElements)
		d.place(s, fresh, gone)
		// An element in another form is never away.
		d.Switch = appendElements(d.Switch, s, c.before, deleteElements)
		d.Switch = appendElements(d.Switch, s, c.after, addElements)
	}
}

// place puts additions and deletions on the side of the rules' change that
// leaves the gateway closed.
func (d *differ) place(s Set, fresh, gone []Op) {
	switch {
	case s.Verdicts:
		d.Shrink = append(append(d.Shrink, fresh...), gone...)
	case s.Opens:
		d.Grow = append(d.Grow, gone...)
		d.Shrink = append(d.Shrink, fresh...)
	default:
		d.Grow = append(d.Grow, fresh...)
		d.Shrink = append(d.Shrink, gone...)
	}
}

// elementChange is the change of the elements of one set. An element with a new comment
// or verdict is in before and, in its new form, in after.
type elementChange struct {
	gone, fresh, before, after []Element
}

// compareElements walks through two ordered lists at once.
func compareElements(have, want []Element) elementChange {
	var c elementChange
	if len(have) == len(want) && (len(have) == 0 || &have[0] == &want[0]) {
		return c
	}
	for len(have) > 0 && len(want) > 0 {
		switch order := have[0].Compare(want[0]); {
		case order < 0:
			c.gone, have = append(c.gone, have[0]), have[1:]
		case order > 0:
			c.fresh, want = append(c.fresh, want[0]), want[1:]
		default:
			if have[0].Comment != want[0].Comment || have[0].Verdict != want[0].Verdict {
				next := want[0]
				next.Count = have[0].Count
				c.before, c.after = append(c.before, have[0]), append(c.after, next)
			}
			have, want = have[1:], want[1:]
		}
	}
	c.gone, c.fresh = append(c.gone, have...), append(c.fresh, want...)
	return c
}

// carry returns the wanted set with the counts of the elements that are there.
func carry(have, want Set) Set {
	if !want.Counter || !have.Counter {
		return want
	}
	counts := make(map[Key]Count, len(have.Elements))
	for _, e := range have.Elements {
		counts[e.Key+e.Last] = e.Count
	}
	elements := make([]Element, len(want.Elements))
	for i, e := range want.Elements {
		e.Count = counts[e.Key+e.Last]
		elements[i] = e
	}
	want.Elements = elements
	return want
}

func addElements(s Set, e []Element) Op    { return AddElements{s, e} }
func deleteElements(s Set, e []Element) Op { return DeleteElements{s, e} }

func appendElements(ops []Op, s Set, elements []Element, op func(Set, []Element) Op) []Op {
	if len(elements) == 0 {
		return ops
	}
	return append(ops, op(s.Definition(), elements))
}
