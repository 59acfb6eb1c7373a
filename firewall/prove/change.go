package prove

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Turn is the way in which packets fare otherwise by other rules.
type Turn string

// The turns. A dropped packet is guarded, by whichever rule.
const (
	LetIn     Turn = "let in"
	NotLetIn  Turn = "no longer let in"
	Guarded   Turn = "guarded"
	Unguarded Turn = "no longer guarded"
)

// Path says whether packets go through an SA on this host.
type Path string

// The paths. OnAny is that of a Change about all other packets.
const (
	InClear  Path = "in clear"
	OutOfSA  Path = "out of a tunnel"
	IntoSA   Path = "into a tunnel"
	OnAny    Path = ""
	mostOf        = 12 // regions of one turn and path
	mostTail      = 8  // ranges of ports and protocols of a region
)

// Change is packets that fare otherwise.
type Change struct {
	Turn   Turn
	Family xfrm.Family
	Ways   []firewall.Way
	Path   Path
	// Src and Dst hold the packets, but for those in SrcBut and DstBut, and Services their protocols and ports, of which there
	// are none where nearly all have some. All are empty in a Change about other packets than
	// plain new ones: errors, replies, and those with marks.
	Src, Dst       netip.Prefix
	SrcBut, DstBut []netip.Prefix
	Services       []firewall.Service
	// More is true if there are more such changes than are told.
	More bool
	// Packet is one of them.
	Packet firewall.Passage
}

// Changes compares the verdicts of two layouts on all packets, without those that DNAT
// sends elsewhere. The first error is about a part without a model.
func Changes(before, after evaluate.Layout, family xfrm.Family, f *firewall.Facts, names []string) ([]Change, error) {
	w := evaluate.Pair(before, after, family, f, names)
	var list []Change
	for _, way := range every {
		possible := onPath(w[0].Space, way)
		was, is := w[0].Run(way, possible), w[1].Run(way, possible)
		for _, turn := range turns(w[0].Space, &was, &is) {
			list = append(list, changesOf(w[0], way, turn.Turn, turn.set)...)
		}
	}
	for _, one := range w {
		if err := one.Odd(); err != nil {
			return nil, err
		}
	}
	return merged(list), nil
}

// onPath are the packets that a kernel lets be on a way.
func onPath(s *space.Space, way firewall.Way) space.Set {
	set := space.Negated(s.Bit(s.SrcLocal), way != firewall.FromHost)
	if way != firewall.FromHost {
		set = s.Minus(set, s.Device(s.In, "lo"))
	} else {
		set = s.Minus(set, s.Bit(s.Path.Present))
	}
	if way != firewall.ToHost {
		return s.Minus(set, s.Device(s.Out, "lo"))
	}
	return s.Minus(set, s.Bit(s.Ahead.Present))
}

type turned struct {
	Turn
	set space.Set
}

func turns(s *space.Space, was, is *evaluate.Fate) []turned {
	gone, goes := s.Or(was.Dropped, was.Rejected), s.Or(is.Dropped, is.Rejected)
	return []turned{
		{LetIn, s.Minus(is.Accepted, was.Accepted)}, {NotLetIn, s.And(s.Minus(was.Accepted, is.Accepted), is.Left)},
		{Guarded, s.Minus(goes, gone)}, {Unguarded, s.And(gone, is.Left)},
	}
}

// changesOf divides packets into regions of plain ones, and the rest.
func changesOf(w *evaluate.Firewall, way firewall.Way, turn Turn, set space.Set) []Change {
	var list []Change
	change := func(of space.Set) Change {
		return Change{Turn: turn, Family: w.Family, Ways: []firewall.Way{way}, Packet: w.Witness(way, of)}
	}
	rest := set
	for _, path := range []Path{InClear, OutOfSA, IntoSA} {
		plain := w.And(set, plainOn(w.Space, way, path))
		if plain == space.None || turn == Guarded && path != InClear {
			continue
		}
		if path == IntoSA { // the policy tells the addresses
			c := change(plain)
			c.Path = path
			list = append(list, c)
			continue
		}
		n := 0
		regions(w.Space, plain, func(src, dst network, of space.Set) bool {
			if n++; n > mostOf {
				list[len(list)-1].More = true
				return false
			}
			c := change(of)
			c.Path, c.Src, c.Dst, c.SrcBut, c.DstBut, c.Services = path, src.Prefix, dst.Prefix, src.but, dst.but, servicesOf(w.Space, of)
			list = append(list, c)
			return true
		})
		// The change for plain packets holds for others between these addresses.
		rest = w.Minus(rest, w.Without(plain, func(bit int) bool { return !slices.Contains(w.Src, bit) && !slices.Contains(w.Dst, bit) }))
	}
	if len(list) == 0 && rest != space.None {
		list = append(list, change(rest))
	}
	return list
}

// plainOn are new packets on a path, as they are without any mark, but for TAG on packets
// out of an SA.
func plainOn(s *space.Space, way firewall.Way, path Path) space.Set {
	set := s.Minus(s.Number(s.FWMark, 0), s.Quoting())
	if path != InClear {
		set = s.Minus(set, s.Opened())
	}
	for _, b := range []struct {
		bit int
		is  bool
	}{
		{s.Related, false}, {s.Established, false}, {s.Reply, false}, {s.SNAT, false}, {s.DNAT, false}, {s.Verified, false}, {s.Misrouted, false},
		{s.Tagged, path == OutOfSA}, {s.Path.Present, path == OutOfSA}, {s.Ahead.Present, path == IntoSA}, {s.DstLocal, way == firewall.ToHost},
	} {
		set = s.And(set, space.Negated(s.Bit(b.bit), !b.is))
	}
	return set
}

// network is the addresses of a prefix but for those of others.
type network struct {
	netip.Prefix
	but []netip.Prefix
}

// regions calls yield with networks that hold a set's packets, and those packets.
func regions(s *space.Space, set space.Set, yield func(src, dst network, of space.Set) bool) {
	ends := s.Without(set, func(bit int) bool { return !slices.Contains(s.Src, bit) && !slices.Contains(s.Dst, bit) })
	rests, sources := parts(s, ends, s.Src)
	for i, rest := range rests {
		_, destinations := parts(s, rest, s.Dst)
		from, to := singles(sources[i]), singles(destinations[0])
		// Sources with the same destinations are told together, if the rest of the packet is the
		// same between all of them.
		here := s.And(s.LiesInAny(s.Src, sources[i]), s.LiesInAny(s.Dst, destinations[0]))
		of := s.And(set, here)
		if of == s.And(here, s.Without(of, func(bit int) bool { return slices.Contains(s.Src, bit) || slices.Contains(s.Dst, bit) })) {
			from, to = networks(s, s.Src, sources[i]), networks(s, s.Dst, destinations[0])
		}
		for _, src := range from {
			for _, dst := range to {
				if !yield(src, dst, s.And(set, s.And(lies(s, s.Src, src), lies(s, s.Dst, dst)))) {
					return
				}
			}
		}
	}
}

// singles are prefixes as networks.
func singles(list []netip.Prefix) []network {
	each := make([]network, len(list))
	for i, p := range list {
		each[i].Prefix = p
	}
	return each
}

func prefixOf(b []byte, bits int) netip.Prefix {
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, bits)
}

// parts divides a set by the prefixes of a field: what is below them, and the prefixes with
// that, in order.
func parts(s *space.Space, set space.Set, f space.Field) (below []space.Set, prefixes [][]netip.Prefix) {
	s.Prefixes(set, f, func(value []byte, bits int, rest space.Set) bool {
		i := slices.Index(below, rest)
		if i < 0 {
			i = len(below)
			below, prefixes = append(below, rest), append(prefixes, nil)
		}
		prefixes[i] = append(prefixes[i], prefixOf(value, bits))
		return true
	})
	return below, prefixes
}

// lies are the packets with an address of a network in a field.
func lies(s *space.Space, f space.Field, n network) space.Set {
	return s.Minus(s.LiesIn(f, n.Prefix), s.LiesInAny(f, n.but))
}

// networks are a list of prefixes, which ascend, as it is shorter: each, or the prefix around
// all of them but for the others in it.
func networks(s *space.Space, f space.Field, list []netip.Prefix) []network {
	first, last := list[0], list[len(list)-1]
	around, _ := first.Addr().Prefix(min(first.Bits(), last.Bits(), prefix.CommonBits(first.Addr(), last.Addr())))
	_, others := parts(s, s.Minus(s.LiesIn(f, around), s.LiesInAny(f, list)), f)
	if but := slices.Concat(others...); len(but) < len(list) {
		return []network{{around, but}}
	}
	return singles(list)
}

// servicesOf are the protocols and ports of packets, none where nearly all protocols are
// among them.
func servicesOf(s *space.Space, set space.Set) []firewall.Service {
	var list []firewall.Service
	protos := s.Without(set, func(bit int) bool { return !slices.Contains(s.Proto, bit) && !slices.Contains(s.DPort, bit) })
	n := 0
	for p := range 256 {
		of := s.And(protos, s.Number(s.Proto, uint64(p)))
		if of == space.None {
			continue
		}
		if n++; n > mostTail {
			return nil
		}
		proto := xfrm.Proto(p)
		if !proto.HasPorts() {
			list = append(list, firewall.Service{Proto: proto})
			continue
		}
		ports := s.Without(of, func(bit int) bool { return !slices.Contains(s.DPort, bit) })
		s.Prefixes(ports, s.DPort, func(value []byte, bits int, _ space.Set) bool {
			lo := uint16(value[0])<<8 | uint16(value[1])
			hi := lo | uint16(1<<(16-bits)-1)
			if last := len(list) - 1; last >= 0 && list[last].Proto == proto && list[last].Ports.Hi+1 == lo {
				list[last].Ports.Hi = hi
			} else {
				list = append(list, firewall.Service{Proto: proto, Ports: firewall.Ports{Lo: lo, Hi: hi}})
			}
			return true
		})
	}
	for i := range list {
		if list[i].Ports == (firewall.Ports{Hi: 65535}) {
			list[i].Ports = firewall.Ports{}
		}
	}
	return list
}

// merged joins changes that differ in the way alone, and puts them in order.
func merged(list []Change) []Change {
	var out []Change
	for _, c := range list {
		i := slices.IndexFunc(out, func(o Change) bool {
			return o.Turn == c.Turn && o.Path == c.Path && o.Src == c.Src && o.Dst == c.Dst && slices.Equal(o.SrcBut, c.SrcBut) && slices.Equal(o.DstBut, c.DstBut) && slices.Equal(o.Services, c.Services)
		})
		if i < 0 {
			out = append(out, c)
			continue
		}
		out[i].Ways, out[i].More = append(out[i].Ways, c.Ways...), out[i].More || c.More
	}
	order := []Turn{LetIn, NotLetIn, Guarded, Unguarded}
	slices.SortStableFunc(out, func(a, b Change) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Turn), slices.Index(order, b.Turn)), -cmp.Compare(len(a.Path), len(b.Path)),
			xfrm.ComparePrefix(a.Src, b.Src), xfrm.ComparePrefix(a.Dst, b.Dst))
	})
	return out
}
