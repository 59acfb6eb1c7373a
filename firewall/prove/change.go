package prove

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
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
func Changes(before, after evaluate.Layout, family xfrm.Family, f *firewall.Facts, devices []string) ([]Change, error) {
	w := evaluate.Pair(before, after, family, f, space.Values{Names: devices})
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
		regions(w.Space, plain, func(src, dst space.Network, of space.Set) bool {
			if n++; n > mostOf {
				list[len(list)-1].More = true
				return false
			}
			c := change(of)
			c.Path, c.Src, c.Dst, c.SrcBut, c.DstBut, c.Services = path, src.Prefix, dst.Prefix, src.But, dst.But, servicesOf(w.Space, of)
			list = append(list, c)
			return true
		})
		// The change for plain packets holds for others between these addresses.
		rest = w.Minus(rest, w.Without(plain, func(bit int) bool { return !slices.Contains(w.Src.Bits, bit) && !slices.Contains(w.Dst.Bits, bit) }))
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

// regions calls yield with networks that hold a set's packets, and those packets.
func regions(s *space.Space, set space.Set, yield func(src, dst space.Network, of space.Set) bool) {
	ends := s.Without(set, func(bit int) bool { return !slices.Contains(s.Src.Bits, bit) && !slices.Contains(s.Dst.Bits, bit) })
	rests, sources := s.Parts(ends, s.Src)
	for i, rest := range rests {
		_, destinations := s.Parts(rest, s.Dst)
		for _, from := range alike(s, set, s.Src, sources[i]) {
			for _, to := range alike(s, from.rest, s.Dst, destinations[0]) {
				for _, src := range s.Src.Networks(from.classes) {
					for _, dst := range s.Dst.Networks(to.classes) {
						if !yield(src, dst, s.And(set, s.And(s.InNetwork(s.Src, src), s.InNetwork(s.Dst, dst)))) {
							return
						}
					}
				}
			}
		}
	}
}

// part is the classes of a field between which the rest of a set's packets is the same.
type part struct {
	classes []int
	rest    space.Set
}

// alike divides classes of a field by the rest of a set's packets.
func alike(s *space.Space, set space.Set, f space.Classed, classes []int) []part {
	var parts []part
	for _, n := range classes {
		rest := s.Without(s.And(set, s.Class(f, n)), func(bit int) bool { return slices.Contains(f.Bits, bit) })
		if rest == space.None {
			continue
		}
		i := slices.IndexFunc(parts, func(p part) bool { return p.rest == rest })
		if i < 0 {
			i = len(parts)
			parts = append(parts, part{rest: rest})
		}
		parts[i].classes = append(parts[i].classes, n)
	}
	return parts
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
