package sets

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Table is an nftables table of the family inet. The zero Table stands for a
// table that does not exist.
type Table struct {
	Name    string
	Comment string
	Flags   TableFlags
	// Sets and Chains are in the order of their names.
	Sets   []Set
	Chains []Chain
}

// TableFlags are the flags of a table, with the kernel's values
// (NFT_TABLE_F_*).
type TableFlags uint32

// The flags. Dormant switches all base chains of the table off. Owner keeps all
// sockets but the one that made the table from changing it. Persist keeps a table
// with an owner after its socket is closed (Linux 6.9).
const (
	Dormant TableFlags = 1
	Owner   TableFlags = 2
	Persist TableFlags = 4
)

// Chain is a list of rules. A chain with a Base is entered at its hook; others
// are entered by jump and goto.
type Chain struct {
	Name    string
	Comment string
	Base    Base
	Rules   []Rule
}

// Base says where the kernel enters a base chain. The zero Base is that of a
// regular chain.
type Base struct {
	Type     ChainType
	Hook     Hook
	Priority int32
	Policy   Policy
}

// ChainType is the type of a base chain.
type ChainType uint8

// The types of chains.
const (
	Regular ChainType = iota
	Filter
	NAT
	Route
)

var chainTypeNames = [...]string{"regular", "filter", "nat", "route"}

// String returns the keyword of nft.
func (t ChainType) String() string { return nameOf(chainTypeNames[:], uint8(t)) }

// Hook is a place in the path of a packet, with the kernel's number
// (NF_INET_*).
type Hook uint8

// The hooks.
const (
	Prerouting  Hook = 0
	Input       Hook = 1
	Forward     Hook = 2
	Output      Hook = 3
	Postrouting Hook = 4
)

var hookNames = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

// String returns the keyword of nft.
func (h Hook) String() string { return nameOf(hookNames[:], uint8(h)) }

// Policy is the verdict at the end of a base chain.
type Policy uint8

// The policies.
const (
	PolicyAccept Policy = iota
	PolicyDrop
)

var policyNames = [...]string{"accept", "drop"}

// String returns the keyword of nft.
func (p Policy) String() string { return nameOf(policyNames[:], uint8(p)) }

// Rule is a list of matches and statements, which the kernel evaluates in order
// until one does not match.
type Rule struct {
	Terms   []Term
	Comment string
	// Count holds the packets and bytes of the rule's counter, if it has one. It is
	// no part of the rule's identity.
	Count Count
	// Handle is the kernel's number of the rule, 0 if the rule was not read from
	// the kernel. It is no part of the rule's identity.
	Handle uint64
}

// Equal reports whether two rules do the same and have the same comment.
// Matches that a later term implies make no difference.
func (r Rule) Equal(o Rule) bool {
	return r.Comment == o.Comment && (r.Identical(o) || reflect.DeepEqual(Canonical(r.Terms), Canonical(o.Terms)))
}

// Identical reports whether two rules have the same comment and the same terms, one by one.
func (r Rule) Identical(o Rule) bool {
	return r.Comment == o.Comment && slices.EqualFunc(r.Terms, o.Terms, sameTerm)
}

// Count is the packets and bytes that a counter has counted.
type Count struct {
	Packets, Bytes uint64
}

// Set is a named set, or with Verdicts a map from keys to verdicts.
type Set struct {
	Name    string
	Comment string
	// Key lists the fields of which a key is made. A field of a set has no cleared
	// bits: a rule that looks up a masked address clears the bits itself.
	Key []Field
	// Interval is true if an element is a range of keys.
	Interval bool
	// Dynamic is true if rules add the elements. Their elements are no part of a
	// table that is wanted.
	Dynamic bool
	// Counter is true if each element counts the look-ups that found it.
	Counter bool
	// Verdicts is true if the set is a map from keys to verdicts.
	Verdicts bool
	// Opens is true if an element lets packets through that would be refused or
	// left unverified without it. Such elements come last and go first, if a change
	// takes several transactions. The kernel does not hold it.
	Opens bool
	// Timeout is the life of an element, 0 for no end. It has the kernel's
	// resolution of a millisecond.
	Timeout time.Duration
	// Size is the greatest number of elements, 0 for no bound. The kernel finds elements
	// faster in a hash set of a known size.
	Size uint32
	// Elements are in the order of their keys.
	Elements []Element
}

// Element is an element of a set.
type Element struct {
	Key Key
	// Last is the last key of the range in a set of intervals, and empty in others.
	Last    Key
	Comment string
	// Verdict is the verdict in a map.
	Verdict Verdict
	// Count is the element's counter, and Expires the rest of its
	// life. Both are no part of the element's identity.
	Count   Count
	Expires time.Duration
}

// Key is the key of an element: the values of the set's fields, each in network
// byte order and padded with zeros to four bytes. Package nftables turns it to
// the kernel's byte order, which depends on the type of the set.
type Key string

// Sort puts chains, sets and elements in order.
func (t *Table) Sort() {
	slices.SortFunc(t.Chains, func(a, b Chain) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Sets, func(a, b Set) int { return strings.Compare(a.Name, b.Name) })
	for i := range t.Sets {
		if e := t.Sets[i].Elements; !slices.IsSortedFunc(e, Element.Compare) {
			slices.SortFunc(e, Element.Compare)
		}
	}
}

// Compare orders elements by their keys.
func (e Element) Compare(o Element) int {
	return cmp.Or(cmp.Compare(e.Key, o.Key), cmp.Compare(e.Last, o.Last))
}

// Chain returns the chain of a name.
func (t Table) Chain(name string) (Chain, bool) {
	for _, c := range t.Chains {
		if c.Name == name {
			return c, true
		}
	}
	return Chain{}, false
}

// Set returns the set of a name.
func (t Table) Set(name string) (Set, bool) {
	for _, s := range t.Sets {
		if s.Name == name {
			return s, true
		}
	}
	return Set{}, false
}

// Has reports whether the set holds an element with the keys of e.
func (s Set) Has(e Element) bool {
	_, found := slices.BinarySearchFunc(s.Elements, e, Element.Compare)
	return found
}

// Definition returns the set without its elements.
func (s Set) Definition() Set {
	s.Elements = nil
	return s
}

// sameDefinition reports whether the kernel can keep a set: its definition can't
// be changed while it exists.
func (s Set) sameDefinition(o Set) bool {
	s.Elements, o.Elements, s.Opens, o.Opens = nil, nil, false, false
	return reflect.DeepEqual(s, o)
}
