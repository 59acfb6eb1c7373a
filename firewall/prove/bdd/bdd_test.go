package bdd

import (
	"math/rand/v2"
	"testing"
)

// truth is a set as the list of all vectors of few bits.
type truth [1 << 6]bool

func TestSetsAreTheirTruthTables(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := New()
	field := []int{0, 1, 2, 3, 4, 5}
	bitOf := func(v int) func(int) bool { return func(bit int) bool { return v>>(5-bit)&1 != 0 } }
	type both struct {
		set  Set
		want truth
	}
	var have []both
	add := func(set Set, is func(v int) bool) {
		var want truth
		for v := range want {
			want[v] = is(v)
		}
		have = append(have, both{set, want})
	}
	for bit := range 6 {
		add(s.Bit(bit), func(v int) bool { return bitOf(v)(bit) })
	}
	add(s.Number(field, 37), func(v int) bool { return v == 37 })
	add(s.Range(field, 5, 40), func(v int) bool { return v >= 5 && v <= 40 })
	add(s.Range(field, 0, 63), func(int) bool { return true })
	add(s.Prefix(field, []byte{0b10110000}, 3), func(v int) bool { return v>>3 == 0b101 })
	add(s.Cube([]Literal{{4, true}, {1, false}, {4, true}}), func(v int) bool { return bitOf(v)(4) && !bitOf(v)(1) })
	add(s.Cube([]Literal{{4, true}, {1, false}, {4, false}}), func(int) bool { return false })
	for range 3000 {
		a, b := have[r.IntN(len(have))], have[r.IntN(len(have))]
		switch r.IntN(6) {
		case 0:
			add(s.And(a.set, b.set), func(v int) bool { return a.want[v] && b.want[v] })
		case 1:
			add(s.Or(a.set, b.set), func(v int) bool { return a.want[v] || b.want[v] })
		case 2:
			add(s.Minus(a.set, b.set), func(v int) bool { return a.want[v] && !b.want[v] })
		case 3:
			add(a.set.Not(), func(v int) bool { return !a.want[v] })
		case 4:
			add(s.Without(a.set, func(bit int) bool { return bit == 2 }), func(v int) bool { return a.want[v] || a.want[v^1<<3] })
		case 5:
			add(s.Union(a.set, b.set, have[0].set), func(v int) bool { return a.want[v] || b.want[v] || have[0].want[v] })
		}
	}
	byTruth := make(map[truth]Set)
	for i, h := range have {
		for v := range h.want {
			if s.Has(h.set, bitOf(v)) != h.want[v] {
				t.Fatalf("set %d: vector %06b: %v, want %v", i, v, !h.want[v], h.want[v])
			}
		}
		if set, ok := byTruth[h.want]; ok && set != h.set {
			t.Fatalf("set %d: two forms of one set: %d and %d", i, set, h.set)
		}
		byTruth[h.want] = h.set
		if (h.set == None) != (h.want == truth{}) {
			t.Fatalf("set %d: None is %v", i, h.set == None)
		}
		if h.set == None {
			continue
		}
		picked := s.Pick(h.set, 6, func(int, []bool) bool { return r.IntN(2) == 0 })
		if !s.Has(h.set, func(bit int) bool { return picked[bit] }) {
			t.Fatalf("set %d: picked %v, which is not in it", i, picked)
		}
	}
}

// A preferred vector is picked if the set has it.
func TestPickPrefers(t *testing.T) {
	s := New()
	field := []int{0, 1, 2, 3, 4, 5, 6, 7}
	set := s.Range(field, 20, 200)
	for _, tc := range []struct{ prefer, want uint8 }{{100, 100}, {20, 20}, {200, 200}, {0b11111111, 0b11001000}} {
		var got uint8
		for i, is := range s.Pick(set, 8, func(bit int, _ []bool) bool { return tc.prefer>>(7-bit)&1 != 0 }) {
			if is {
				got |= 1 << (7 - i)
			}
		}
		if got != tc.want {
			t.Errorf("prefer %d: picked %d, want %d", tc.prefer, got, tc.want)
		}
	}
}
