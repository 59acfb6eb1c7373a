package sets

import (
	"fmt"
	"slices"
	"strings"
)

// Change leads from one table to another. All of it is one transaction where the
// kernel takes it as one. If it is too long for that, Grow and Shrink are split
// anywhere, and Switch stays whole: guards are added before the rules that use
// them, and taken away after.
type Change struct {
	// Table is the name of the table.
	Table string
	// Grow adds closing elements, or takes away opening ones, before the rules change.
	Grow []Op
	// Switch changes the rules, and everything that can't be changed while rules
	// refer to it.
	Switch []Op
	// Shrink takes away closing elements, or adds opening ones, under the new rules.
	Shrink []Op
}

// Empty reports whether there is nothing to do.
func (c Change) Empty() bool { return len(c.Grow)+len(c.Switch)+len(c.Shrink) == 0 }

// Ops returns all operations in order.
func (c Change) Ops() []Op {
	ops := make([]Op, 0, len(c.Grow)+len(c.Switch)+len(c.Shrink))
	return append(append(append(ops, c.Grow...), c.Switch...), c.Shrink...)
}

// String returns one line for each operation, in words like those of nft.
func (c Change) String() string {
	var b strings.Builder
	for _, op := range c.Ops() {
		b.WriteString(op.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// TakeElements makes a table of the one that the change of elements was made for. It
// writes to the table's lists of elements. Operations on anything else are left out.
func (t *Table) TakeElements(c Change) {
	for _, op := range c.Ops() {
		switch op := op.(type) {
		case AddElements:
			if s := t.set(op.Set.Name); s != nil {
				s.add(op.Elements)
			}
		case DeleteElements:
			if s := t.set(op.Set.Name); s != nil {
				s.remove(op.Elements)
			}
		}
	}
}

func (t *Table) set(name string) *Set {
	if i := slices.IndexFunc(t.Sets, func(s Set) bool { return s.Name == name }); i >= 0 {
		return &t.Sets[i]
	}
	return nil
}

// add puts the elements that the set lacks in their places. Each of the others moves at
// most once.
func (s *Set) add(elements []Element) {
	fresh := slices.DeleteFunc(slices.Clone(elements), s.Has)
	slices.SortFunc(fresh, Element.Compare)
	end := len(s.Elements)
	s.Elements = append(s.Elements, fresh...)
	for n := len(fresh) - 1; n >= 0; n-- {
		i, _ := slices.BinarySearchFunc(s.Elements[:end], fresh[n], Element.Compare)
		copy(s.Elements[i+n+1:], s.Elements[i:end])
		s.Elements[i+n], end = fresh[n], i
	}
}

// remove takes elements away. Each of the others moves at most once.
func (s *Set) remove(elements []Element) {
	var gone []int
	for _, e := range elements {
		if i, found := slices.BinarySearchFunc(s.Elements, e, Element.Compare); found {
			gone = append(gone, i)
		}
	}
	slices.Sort(gone)
	for n, i := range gone {
		end := len(s.Elements)
		if n+1 < len(gone) {
			end = gone[n+1]
		}
		copy(s.Elements[i-n:], s.Elements[i+1:end])
	}
	end := len(s.Elements) - len(gone)
	clear(s.Elements[end:])
	s.Elements = s.Elements[:end]
}

// Op is one operation on a table: AddTable, DeleteTable, SetFlags, AddChain,
// DeleteChain, FlushChain, AddRule, DeleteRule, AddSet, DeleteSet, AddElements
// or DeleteElements.
type Op interface {
	String() string
	op()
}

// AddTable makes a table that does not exist, without chains and sets.
type AddTable struct{ Table Table }

// DeleteTable deletes the table with all that is in it.
type DeleteTable struct{ Name string }

// SetFlags changes the flags of a table.
type SetFlags struct {
	Name  string
	Flags TableFlags
}

// AddChain makes a chain without rules.
type AddChain struct{ Chain Chain }

// DeleteChain deletes a chain with its rules.
type DeleteChain struct{ Name string }

// FlushChain deletes all rules of a chain.
type FlushChain struct{ Name string }

// AddRule adds a rule to a chain: before the rule with a handle, or with 0 as the
// last one.
type AddRule struct {
	Chain  string
	Rule   Rule
	Before uint64
}

// DeleteRule deletes the rule that has the handle of Rule.
type DeleteRule struct {
	Chain string
	Rule  Rule
}

// AddSet makes a set without elements.
type AddSet struct{ Set Set }

// DeleteSet deletes a set with its elements.
type DeleteSet struct{ Name string }

// AddElements adds elements to a set, of which Set is the definition.
type AddElements struct {
	Set      Set
	Elements []Element
}

// DeleteElements deletes elements of a set, of which Set is the definition.
type DeleteElements struct {
	Set      Set
	Elements []Element
}

func (AddTable) op()       {}
func (DeleteTable) op()    {}
func (SetFlags) op()       {}
func (AddChain) op()       {}
func (DeleteChain) op()    {}
func (FlushChain) op()     {}
func (AddRule) op()        {}
func (DeleteRule) op()     {}
func (AddSet) op()         {}
func (DeleteSet) op()      {}
func (AddElements) op()    {}
func (DeleteElements) op() {}

func (o AddTable) String() string {
	return strings.TrimSpace("add table " + o.Table.Name + " " + o.Table.Flags.String())
}
func (o DeleteTable) String() string { return "delete table " + o.Name }
func (o SetFlags) String() string {
	return fmt.Sprintf("set flags of table %s to [%s]", o.Name, o.Flags)
}
func (o AddChain) String() string {
	if o.Chain.Base.Type == Regular {
		return "add chain " + o.Chain.Name
	}
	return "add chain " + o.Chain.Name + " { " + o.Chain.Base.String() + " }"
}
func (o DeleteChain) String() string { return "delete chain " + o.Name }
func (o FlushChain) String() string  { return "flush chain " + o.Name }
func (o AddRule) String() string {
	if o.Before != 0 {
		return fmt.Sprintf("insert rule %s before %d: %s", o.Chain, o.Before, o.Rule)
	}
	return "add rule " + o.Chain + " " + o.Rule.String()
}
func (o DeleteRule) String() string {
	return fmt.Sprintf("delete rule %s handle %d: %s", o.Chain, o.Rule.Handle, o.Rule)
}
func (o AddSet) String() string    { return "add " + kindOf(o.Set) + " " + o.Set.Name }
func (o DeleteSet) String() string { return "delete set " + o.Name }
func (o AddElements) String() string {
	return elementsText("add", o.Set, o.Elements)
}
func (o DeleteElements) String() string {
	return elementsText("delete", o.Set, o.Elements)
}

func kindOf(s Set) string {
	if s.Verdicts {
		return "map"
	}
	return "set"
}

func elementsText(verb string, s Set, elements []Element) string {
	words := make([]string, len(elements))
	for i, e := range elements {
		words[i] = e.Text(s)
	}
	return fmt.Sprintf("%s element %s { %s }", verb, s.Name, strings.Join(words, ", "))
}
