package sets

import (
	"slices"
	"time"
)

// Term is a match or a statement of a rule. The types are Match, Range, OneOf,
// In, Dispatch, Update, SetMark, MaxSeg, Counter, Log, Limit, Reject, SNAT,
// Verdict and Unknown.
type Term interface {
	// String returns the words of nft.
	String() string
	// fields returns the fields that the term looks at, which may need matches
	// before them.
	fields() []Field
}

// Comparison compares a field with a value.
type Comparison uint8

// The comparisons, with the kernel's values (NFT_CMP_*). The last four compare
// only values that are in network byte order.
const (
	Eq Comparison = iota
	Neq
	Lt
	Lte
	Gt
	Gte
)

var opNames = [...]string{"==", "!=", "<", "<=", ">", ">="}

// String returns the sign of nft.
func (o Comparison) String() string { return nameOf(opNames[:], uint8(o)) }

// Match compares a field with a value, under a mask if there is one.
type Match struct {
	Field Field
	Op    Comparison
	// Mask selects bits of a number of at most four bytes, 0 for all. The prefix of
	// an address is selected by the field.
	Mask  uint32
	Value Value
}

// Equals matches a field with one value.
func Equals(k FieldKind, v Value) Match { return Match{Field: F(k), Value: v} }

// EqualsNumber matches a field with one number.
func EqualsNumber(k FieldKind, n uint64) Match {
	return Match{Field: F(k), Value: Number(F(k).Type(), n)}
}

// Exists matches where a field such as SecPath or RouteIPsec is there.
func Exists(k FieldKind) Match { return EqualsNumber(k, 1) }

// Missing matches where a field such as SecPath or RouteIPsec is not there.
func Missing(k FieldKind) Match { return EqualsNumber(k, 0) }

// AnyBit matches where a field has one of the bits.
func AnyBit(k FieldKind, bits uint64) Match {
	return Match{Field: F(k), Op: Neq, Mask: uint32(bits), Value: Number(F(k).Type(), 0)}
}

// NoBit matches where a field has none of the bits.
func NoBit(k FieldKind, bits uint64) Match {
	return Match{Field: F(k), Mask: uint32(bits), Value: Number(F(k).Type(), 0)}
}

// AllBits matches where a field has all the bits.
func AllBits(k FieldKind, bits uint64) Match {
	return Match{Field: F(k), Mask: uint32(bits), Value: Number(F(k).Type(), bits)}
}

// Range matches a field with all values from Low to High. The values must be in
// network byte order.
type Range struct {
	Field     Field
	Not       bool
	Low, High Value
}

// OneOf matches a field with a few values.
type OneOf struct {
	Field  Field
	Not    bool
	Values []Value
}

// In looks fields up in a set.
type In struct {
	Fields []Field
	Not    bool
	Set    string
}

// Dispatch looks fields up in a map of verdicts and ends with the verdict found.
type Dispatch struct {
	Fields []Field
	Map    string
}

// Update adds the fields' values to a dynamic set.
type Update struct {
	Fields []Field
	Set    string
	// Add leaves the life of an element that exists as it is; else it begins anew.
	Add bool
	// Timeout is the life of the element, 0 for that of the set.
	Timeout time.Duration
}

// SetMark sets the bits of Mask in the packet's mark to those of Value.
type SetMark struct {
	Value, Mask uint32
}

// MaxSeg lowers the maximum segment size that a TCP packet offers.
type MaxSeg struct {
	// Size is the size in bytes, 0 for that of the route.
	Size uint16
}

// Counter counts the packets that get here. The counts are in the Rule.
type Counter struct{}

// Log logs the packet to the kernel's log, or to a group of listeners.
type Log struct {
	Prefix string
	// ToGroup is true if Group takes the packet in place of the kernel's log.
	ToGroup bool
	Group   uint16
}

// Limit matches at most Rate packets in each unit of time, and Burst at once.
type Limit struct {
	Rate uint64
	// Per is a second, a minute, an hour, a day or a week.
	Per   time.Duration
	Burst uint32
	// Over matches packets beyond the limit instead.
	Over bool
}

// Reject drops the packet and tells its sender.
type Reject struct {
	With RejectWith
}

// RejectWith is how a sender is told.
type RejectWith uint8

// The ways. All but TCPReset fit both families.
const (
	PortUnreachable RejectWith = iota
	NoRoute
	HostUnreachable
	AdminProhibited
	TCPReset
)

var rejectNames = [...]string{"icmpx port-unreachable", "icmpx no-route", "icmpx host-unreachable", "icmpx admin-prohibited", "tcp reset"}

// String returns the words of nft.
func (w RejectWith) String() string { return nameOf(rejectNames[:], uint8(w)) }

// SNAT binds the flow's source to the value of an address field. With the
// packet's own source the flow keeps it, and no later chain translates it.
type SNAT struct {
	To Field
}

// Verdict ends the rule.
type Verdict struct {
	Do VerdictKind
	// Chain is the target of Jump and Goto.
	Chain string
}

// VerdictKind is the kind of a verdict.
type VerdictKind uint8

// The kinds of verdicts. The zero one is none.
const (
	NoVerdict VerdictKind = iota
	Accept
	Drop
	Return
	Jump
	Goto
)

var verdictNames = [...]string{"", "accept", "drop", "return", "jump", "goto"}

// String returns the keyword of nft.
func (k VerdictKind) String() string { return nameOf(verdictNames[:], uint8(k)) }

// Unknown stands for a part of a rule read from the kernel that this package
// has no term for. A rule with one equals no wanted rule.
type Unknown struct {
	// Expression is the kernel's name of the expression.
	Expression string
}

// sameTerm reports whether two terms are of one type and have the same values.
func sameTerm(a, b Term) bool {
	switch a := a.(type) {
	case OneOf:
		b, ok := b.(OneOf)
		return ok && a.Field == b.Field && a.Not == b.Not && slices.Equal(a.Values, b.Values)
	case In:
		b, ok := b.(In)
		return ok && a.Set == b.Set && a.Not == b.Not && slices.Equal(a.Fields, b.Fields)
	case Dispatch:
		b, ok := b.(Dispatch)
		return ok && a.Map == b.Map && slices.Equal(a.Fields, b.Fields)
	case Update:
		b, ok := b.(Update)
		return ok && a.Set == b.Set && a.Add == b.Add && a.Timeout == b.Timeout && slices.Equal(a.Fields, b.Fields)
	}
	return a == b
}

func (m Match) fields() []Field    { return []Field{m.Field} }
func (r Range) fields() []Field    { return []Field{r.Field} }
func (o OneOf) fields() []Field    { return []Field{o.Field} }
func (i In) fields() []Field       { return i.Fields }
func (d Dispatch) fields() []Field { return d.Fields }
func (u Update) fields() []Field   { return u.Fields }
func (s SNAT) fields() []Field     { return []Field{s.To} }
func (SetMark) fields() []Field    { return nil }
func (MaxSeg) fields() []Field     { return nil }
func (Counter) fields() []Field    { return nil }
func (Log) fields() []Field        { return nil }
func (Limit) fields() []Field      { return nil }
func (Verdict) fields() []Field    { return nil }
func (Unknown) fields() []Field    { return nil }

// A reset needs a TCP packet, which the flags stand for.
func (r Reject) fields() []Field {
	if r.With == TCPReset {
		return []Field{F(TCPFlags)}
	}
	return nil
}
