package firewall

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// UsedMarks returns the bits of the fwmark with a meaning on this host: those of routing
// rules, states and policies, and those that rules of others write. Firewall rules that
// only match don't count: they may well match on VERIFIED. A mask of all bits, as by
// default, does not tell which of them are used and counts with its value.
func UsedMarks(s xfrm.Snapshot, written uint32) uint32 {
	used := written
	add := func(m xfrm.Mark) {
		if m.Mask == ^uint32(0) {
			m.Mask = m.Value
		}
		used |= m.Mask
	}
	for _, r := range s.Host.Rules {
		add(r.Mark)
	}
	for _, st := range s.States {
		add(st.Mark)
		add(st.SetMark)
	}
	for _, p := range s.Policies {
		add(p.Mark)
	}
	return used
}

// FreeMarks picks a pair of bits that are not used: the default one, or else
// the highest pair that is free.
func FreeMarks(used uint32) (Marks, bool) {
	if d := DefaultMarks(); used&d.Both() == 0 {
		return d, true
	}
	free := ^used
	if bits.OnesCount32(free) < 2 {
		return Marks{}, false
	}
	high := uint32(1) << (31 - bits.LeadingZeros32(free))
	low := uint32(1) << (31 - bits.LeadingZeros32(free&^high))
	return Marks{Tag: low, Verified: high}, true
}

// MarkClashError says that a routing rule matches packets because they carry a bit of ours:
// these would be routed by it.
type MarkClashError struct {
	Rule  xfrm.RoutingRule
	Marks Marks
	// Free is a pair of bits that is free; zero where there is none.
	Free Marks
}

// Error names the rule and the remedy.
func (e *MarkClashError) Error() string { return e.Seen() + ": " + e.Remedy() }

// Seen names the rule and the bits.
func (e *MarkClashError) Seen() string {
	return fmt.Sprintf("the routing rule \"ip rule\" %d with fwmark %s matches the bits of xfrmfw, %#x", e.Rule.Priority, e.Rule.Mark, e.Marks.Both())
}

// Remedy is the words of the configuration that end the clash.
func (e *MarkClashError) Remedy() string {
	if e.Free == (Marks{}) {
		return "no two bits are free: narrow the rule's mask"
	}
	return fmt.Sprintf("set marks: {tag: %#x, verified: %#x}, or marks: auto", e.Free.Tag, e.Free.Verified)
}

// CheckMarks refuses a pair of bits if a routing rule matches packets because they carry
// one of them, with the first such rule and a pair that is free; nil where none does.
// Written are the bits that rules of others write.
//
// A rule without a mask compares all 32 bits. It clashes only if its value has one of the
// two bits: see UnmaskedRules for the others.
func CheckMarks(s xfrm.Snapshot, written uint32, marks Marks) *MarkClashError {
	for _, r := range s.Host.Rules {
		if r.Mark.Value&r.Mark.Mask&marks.Both() != 0 {
			free, _ := FreeMarks(UsedMarks(s, written))
			return &MarkClashError{Rule: r, Marks: marks, Free: free}
		}
	}
	return nil
}

// UnmaskedRules returns the routing rules that compare our bits with 0: they don't match
// tunnel packets with other bits that another program has set.
func UnmaskedRules(rules []xfrm.RoutingRule, marks Marks) []xfrm.RoutingRule {
	return slices.DeleteFunc(slices.Clone(rules), func(r xfrm.RoutingRule) bool {
		return r.Mark.Mask&marks.Both() == 0 || r.Mark.Value&r.Mark.Mask&marks.Both() != 0
	})
}
