package space

import (
	"net/netip"
)

// Network is the addresses of a prefix but for those of others in it.
type Network struct {
	netip.Prefix
	But []netip.Prefix
}

// InNetwork are the packets with an address of a network in a field.
func (s *Space) InNetwork(f Classed, n Network) Set {
	return s.Minus(s.LiesIn(f, n.Prefix), s.LiesInAny(f, n.But))
}

// Class returns the packets with a value of a class in a field.
func (s *Space) Class(f Classed, n int) Set { return s.Number(f.Bits, uint64(n)) }

// Parts divides a set by the classes of a field: the rests below them, and the classes with
// each. No other bit before those of the field may decide.
func (s *Space) Parts(set Set, f Classed) (below []Set, parts [][]int) {
	places := make(map[Set]int)
	s.Prefixes(set, f.Bits, func(value []byte, bits int, rest Set) bool {
		i, ok := places[rest]
		if !ok {
			i = len(below)
			places[rest] = i
			below, parts = append(below, rest), append(parts, nil)
		}
		first := 0
		for at := range f.Bits {
			first = first<<1 | int(value[at/8]>>(7-at%8)&1)
		}
		for n := first; n < min(first+1<<(len(f.Bits)-bits), len(f.classes.of)); n++ {
			parts[i] = append(parts[i], n)
		}
		return true
	})
	return below, parts
}

// Networks returns the addresses of some classes, as few networks.
func (f Classed) Networks(numbers []int) []Network {
	t := &telling{classes: f.classes, in: make(map[int]bool)}
	for _, n := range numbers {
		t.in[n] = true
	}
	t.tell(0)
	return t.list
}

// telling makes networks of classes.
type telling struct {
	*classes
	in   map[int]bool
	list []Network
}

// has tells whether the values of a node that lie in none within are to be told, and whole
// whether all are.
func (t *telling) has(i int) (own, whole bool) {
	n := &t.nodes[i]
	whole = true
	for c := n.first; c <= min(n.last, len(t.of)-1); c++ {
		whole = whole && t.in[c]
	}
	return n.value.IsValid() && t.in[n.own], whole
}

// within calls yield with the nodes right below a node.
func (t *telling) within(i int, yield func(int)) {
	for j := i + 1; j < len(t.nodes) && t.nodes[i].Contains(t.nodes[j].Addr()); j++ {
		if t.nodes[j].parent == i {
			yield(j)
		}
	}
}

func (t *telling) tell(i int) {
	own, whole := t.has(i)
	switch {
	case whole:
		t.list = append(t.list, Network{Prefix: t.nodes[i].Prefix})
	case own:
		at := len(t.list)
		t.list = append(t.list, Network{Prefix: t.nodes[i].Prefix})
		t.within(i, func(j int) { t.cut(at, j) })
	default:
		t.within(i, t.tell)
	}
}

// cut takes the values of a node that are not to be told out of the network around.
func (t *telling) cut(at, i int) {
	own, whole := t.has(i)
	switch {
	case whole:
	case own, !t.nodes[i].value.IsValid():
		t.within(i, func(j int) { t.cut(at, j) })
	default:
		t.list[at].But = append(t.list[at].But, t.nodes[i].Prefix)
		t.within(i, t.tell)
	}
}
