// Package places finds the records of a long list by a number that they have, without a walk
// through the list.
package places

import (
	"iter"
	"slices"
)

// Places are those of the records of a list by their numbers, in eight bytes a record: the
// number in the upper half, and the place in the lower one.
type Places []uint64

// Of returns the places of n records. The number of the record at a place is left out if
// ok is false.
func Of(n int, number func(place int) (of uint32, ok bool)) Places {
	p := make(Places, 0, n)
	for place := range n {
		if of, ok := number(place); ok {
			p = append(p, uint64(of)<<32|uint64(place))
		}
	}
	slices.Sort(p)
	return p
}

// At returns the places of the records with a number, in the order of the list.
func (p Places) At(number uint32) iter.Seq[int] {
	return func(yield func(int) bool) {
		first, _ := slices.BinarySearch(p, uint64(number)<<32)
		for _, found := range p[first:] {
			if uint32(found>>32) != number || !yield(int(uint32(found))) {
				return
			}
		}
	}
}
