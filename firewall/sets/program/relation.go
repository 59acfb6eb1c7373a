package program

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// maxLengths is how many pairs of prefix lengths of one relation have a hash set
// of their own. Peers narrow selectors, so they could make any number; the rest
// goes to sets of intervals.
const maxLengths = 24

// pair is a pair of selectors in a relation, with the other keys of its packets.
type pair struct {
	reqid         uint32
	outer         netip.Addr // of the peer, where several tunnels share the reqid
	remote, local netip.Prefix
	proto         xfrm.Proto // 0 for any
	rport, lport  ports      // any if both ends are zero
	// types are those of ICMP, any if both ends are 0 and 255. The code is not told:
	// a selector with a code holds for all codes of its type.
	types   ports
	hasType bool
	never   bool // no packet has such a type
	comment string
}

type ports struct{ first, last uint16 }

// isAny reports whether every port matches.
func (p ports) isAny() bool { return p == ports{} || p == ports{0, 65535} }

// all returns the range with the zero value written out.
func (p ports) all() ports {
	if p == (ports{}) {
		return ports{0, 65535}
	}
	return p
}

// relation is pairs that rules look up in one or several places. Every set of it
// has its own pair of prefix lengths, or its own kind of ranges.
type relation struct {
	name    string
	comment string // of each set, before the parts of its key
	withSA  bool   // the key begins with the reqid of an inbound SA
	outward bool   // the key begins with the reqid of an outbound SA
	counter bool
	opens   bool
	sets    []relationSet
}

// relationSet is one set of a relation.
type relationSet struct {
	name string
	// Bits are the prefix lengths in a hash set.
	remoteBits, localBits int
	shape                 shape
}

// shape is the parts of a set's keys besides reqid and addresses. The zero
// shape is that of hash sets.
type shape struct {
	ranges             bool
	outer4, outer6     bool
	hasProto, hasPorts bool
	hasType            bool
	noRemote, noLocal  bool
	layer              int
}

// relate makes the sets of a relation. Pairs that would overlap in a set of intervals go
// to layers, because the kernel refuses elements that overlap (nft_pipapo).
func (b *builder) relate(r relation, f *family, pairs []pair) *relation {
	byLengths := make(map[[2]int][]pair)
	var odd []pair
	for _, p := range pairs {
		if p.never {
			continue
		}
		if p.outer.IsValid() || p.proto != 0 {
			odd = append(odd, p)
			continue
		}
		key := [2]int{p.remote.Bits(), p.local.Bits()}
		byLengths[key] = append(byLengths[key], p)
	}
	lengths := make([][2]int, 0, len(byLengths))
	for key := range byLengths {
		lengths = append(lengths, key)
	}
	// The most pairs first, so that the many are found fast; then by length.
	slices.SortFunc(lengths, func(x, y [2]int) int {
		return cmp.Or(cmp.Compare(len(byLengths[y]), len(byLengths[x])), cmp.Compare(y[0], x[0]), cmp.Compare(y[1], x[1]))
	})
	for i, key := range lengths {
		if i >= maxLengths {
			odd = append(odd, byLengths[key]...)
			continue
		}
		s := relationSet{
			name:       fmt.Sprintf("%s%s_%d_%d", r.name, f.suffix, key[0], key[1]),
			remoteBits: key[0], localBits: key[1],
			shape: shape{noRemote: key[0] == 0, noLocal: key[1] == 0},
		}
		r.sets = append(r.sets, s)
		b.addSet(r, f, s, byLengths[key])
	}
	slices.SortFunc(r.sets, func(x, y relationSet) int { return strings.Compare(x.name, y.name) })
	b.relateOdd(&r, f, odd)
	return &r
}

// relateOdd makes the sets of intervals.
func (b *builder) relateOdd(r *relation, f *family, pairs []pair) {
	byShape := make(map[shape][]pair)
	for _, p := range pairs {
		s := shape{
			ranges: true,
			outer4: p.outer.IsValid() && p.outer.Is4(), outer6: p.outer.Is6(),
			hasProto: p.proto != 0 && !p.hasType, hasPorts: !p.rport.isAny() || !p.lport.isAny(), hasType: p.hasType,
		}
		byShape[s] = append(byShape[s], p)
	}
	var shapes []shape
	for s := range byShape {
		shapes = append(shapes, s)
	}
	slices.SortFunc(shapes, func(x, y shape) int { return strings.Compare(x.letters(), y.letters()) })
	for _, s := range shapes {
		for layer, pairs := range layers(byShape[s]) {
			s.layer = layer
			set := relationSet{name: r.name + f.suffix + "_" + s.letters(), shape: s}
			r.sets = append(r.sets, set)
			b.addSet(*r, f, set, pairs)
		}
	}
}

// letters names a shape within a relation.
func (s shape) letters() string {
	name := "x"
	for _, l := range []struct {
		is     bool
		letter string
	}{{s.outer4, "o4"}, {s.outer6, "o6"}, {s.hasProto, "p"}, {s.hasPorts, "t"}, {s.hasType, "i"}} {
		if l.is {
			name += l.letter
		}
	}
	if s.layer > 0 {
		name += fmt.Sprintf("_%d", s.layer)
	}
	return name
}

// layers parts pairs so that no two of one layer overlap.
func layers(pairs []pair) [][]pair {
	var out [][]pair
next:
	for _, p := range pairs {
		for i := range out {
			if !slices.ContainsFunc(out[i], p.overlaps) {
				out[i] = append(out[i], p)
				continue next
			}
		}
		out = append(out, []pair{p})
	}
	return out
}

// overlaps reports whether some packet matches both pairs.
func (p pair) overlaps(o pair) bool {
	ports := func(x, y ports) bool { x, y = x.all(), y.all(); return x.first <= y.last && y.first <= x.last }
	return p.reqid == o.reqid && p.outer == o.outer && p.remote.Overlaps(o.remote) && p.local.Overlaps(o.local) &&
		(p.proto == 0 || o.proto == 0 || p.proto == o.proto) && ports(p.rport, o.rport) && ports(p.lport, o.lport) &&
		(!p.hasType || !o.hasType || p.types.first <= o.types.last && o.types.first <= p.types.last)
}

// addSet adds one set with its elements to the table.
func (b *builder) addSet(r relation, f *family, s relationSet, pairs []pair) {
	set := sets.Set{
		Name: s.name, Comment: s.about(r), Interval: s.shape.ranges, Counter: r.counter, Opens: r.opens,
		Key: s.fields(r, f, view{remote: f.src, local: f.dst, proto: sets.L4Proto, remotePort: sets.SrcPort, locPort: sets.DstPort}),
	}
	for i := range set.Key {
		set.Key[i].Clear = 0
	}
	if len(set.Key) == 0 {
		return
	}
	for _, p := range pairs {
		set.Elements = append(set.Elements, s.element(r, p))
	}
	slices.SortFunc(set.Elements, sets.Element.Compare)
	set.Elements = slices.CompactFunc(set.Elements, func(x, y sets.Element) bool { return x.Compare(y) == 0 })
	b.table.Sets = append(b.table.Sets, set)
}

// about is the comment of the set. It names the parts of the keys of a hash set, of which
// typeof shows neither reqid nor prefix lengths. The kernel takes 256 bytes for both.
func (s relationSet) about(r relation) string {
	if s.shape.ranges {
		return r.comment
	}
	var parts []string
	if r.withSA || r.outward {
		parts = append(parts, "reqid")
	}
	if !s.shape.noRemote {
		parts = append(parts, fmt.Sprintf("remote/%d", s.remoteBits))
	}
	if !s.shape.noLocal {
		parts = append(parts, fmt.Sprintf("local/%d", s.localBits))
	}
	return r.comment + ": " + strings.Join(parts, " . ")
}

// fields are the fields that a rule looks up in the set, as the ends of a pair are
// at a place.
func (s relationSet) fields(r relation, f *family, v view) []sets.Field {
	var fields []sets.Field
	switch {
	case r.withSA:
		fields = append(fields, sets.F(sets.InReqid).At(v.depth))
	case r.outward:
		fields = append(fields, sets.F(sets.OutReqid).At(v.depth))
	}
	switch {
	case s.shape.outer4:
		fields = append(fields, outerField(r, sets.InOuterSrc4, sets.OutOuterDst4).At(v.depth))
	case s.shape.outer6:
		fields = append(fields, outerField(r, sets.InOuterSrc6, sets.OutOuterDst6).At(v.depth))
	}
	end := func(k sets.FieldKind, bits int) sets.Field {
		if s.shape.ranges {
			return sets.F(k)
		}
		return sets.F(k).Masked(bits)
	}
	if !s.shape.noRemote {
		fields = append(fields, end(v.remote, s.remoteBits))
	}
	if !s.shape.noLocal {
		fields = append(fields, end(v.local, s.localBits))
	}
	if s.shape.hasProto {
		fields = append(fields, sets.F(v.proto))
	}
	if s.shape.hasPorts {
		fields = append(fields, sets.F(v.remotePort), sets.F(v.locPort))
	}
	if s.shape.hasType {
		fields = append(fields, sets.F(f.errorType))
	}
	return fields
}

func outerField(r relation, in, out sets.FieldKind) sets.Field {
	if r.outward {
		return sets.F(out)
	}
	return sets.F(in)
}

// element is the element of a pair.
func (s relationSet) element(r relation, p pair) sets.Element {
	var first, last []byte
	add := func(x, y []byte) { first, last = append(first, x...), append(last, y...) }
	if r.withSA || r.outward {
		reqid := sets.AppendUint(nil, p.reqid)
		add(reqid, reqid)
	}
	if s.shape.outer4 || s.shape.outer6 {
		outer := sets.AppendAddr(nil, p.outer)
		add(outer, outer)
	}
	if !s.shape.noRemote {
		add(sets.AppendAddr(nil, p.remote.Addr()), sets.AppendAddr(nil, sets.LastAddr(p.remote)))
	}
	if !s.shape.noLocal {
		add(sets.AppendAddr(nil, p.local.Addr()), sets.AppendAddr(nil, sets.LastAddr(p.local)))
	}
	if s.shape.hasProto {
		proto := []byte{uint8(p.proto), 0, 0, 0}
		add(proto, proto)
	}
	if s.shape.hasPorts {
		port := func(n uint16) []byte { return []byte{byte(n >> 8), byte(n), 0, 0} }
		remote, local := p.rport.all(), p.lport.all()
		add(port(remote.first), port(remote.last))
		add(port(local.first), port(local.last))
	}
	if s.shape.hasType {
		add([]byte{byte(p.types.first), 0, 0, 0}, []byte{byte(p.types.last), 0, 0, 0})
	}
	e := sets.Element{Key: sets.Key(first), Comment: p.comment}
	if s.shape.ranges {
		e.Last = sets.Key(last)
	}
	return e
}

// lookups returns the terms that find a packet in the relation as its ends are at a
// place, each for a rule of its own.
func (r *relation) lookups(f *family, v view) [][]sets.Term {
	var all [][]sets.Term
	for _, s := range r.sets {
		if s.shape.hasType && v.proto == sets.CtProto {
			continue // no rule tells flows of an ICMP type from others
		}
		fields := s.fields(*r, f, v)
		if len(fields) == 0 { // everything matches
			all = append(all, nil)
			continue
		}
		all = append(all, []sets.Term{sets.In{Fields: fields, Set: s.name}})
	}
	return all
}
