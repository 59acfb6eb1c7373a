package prove

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Layout is all that an engine laid out for one family: rules of iptables, or nil, and a
// table of nftables, which decides alone without rules.
type Layout struct {
	Rules *rules.Ruleset
	Table sets.Table
}

// Turn is the way in which packets fare otherwise by other rules.
type Turn string

// The turns. A packet that is dropped is guarded, whoever drops it.
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
	// Src and Dst hold the packets, and Services their protocols and ports, of which there
	// are none where nearly all have some. All are empty in a Change about other packets than
	// plain new ones: errors, replies, and those with marks.
	Src, Dst netip.Prefix
	Services []firewall.Service
	// More is true if there are more such changes than are told.
	More bool
	// Packet is one of them.
	Packet firewall.Passage
}

// Changes compares what two layouts do to all packets, but for those that DNAT sends
// elsewhere. The first error is about a part without a model.
func Changes(before, after Layout, family xfrm.Family, f *firewall.Facts, names []string) ([]Change, error) {
	w := pair(before, after, family, f, names)
	var list []Change
	for _, way := range every {
		possible := w[0].onPath(way)
		was, is := w[0].Run(way, possible), w[1].Run(way, possible)
		for _, turn := range w[0].turns(&was, &is) {
			list = append(list, w[0].changes(way, turn.Turn, turn.set)...)
		}
	}
	for _, one := range w {
		if err := one.Odd(); err != nil {
			return nil, err
		}
	}
	return merged(list), nil
}

// pair prepares two layouts in one space.
func pair(before, after Layout, family xfrm.Family, f *firewall.Facts, names []string) [2]*Firewall {
	names = slices.Clone(names)
	var w [2]*Firewall
	for i, l := range [2]Layout{before, after} {
		w[i] = &Firewall{hooks: make(map[hookSight]*evaluator), tables: make(map[sight]*tableEvaluator), scope: All}
		if l.Rules != nil {
			w[i].rules = NewRules(*l.Rules)
			names = append(names, w[i].rules.Devices()...)
		}
		if l.Rules == nil || len(l.Table.Chains) > 0 {
			w[i].table = newTable(&l.Table)
			names = append(names, w[i].table.devices()...)
		}
	}
	w[0].model = model{newSpace(family, f, names, true)}
	w[1].model = w[0].model
	return w
}

// onPath are the packets that a kernel lets be on a way.
func (s model) onPath(way firewall.Way) Set {
	set := negated(s.Bit(s.srcLocal), way != firewall.FromHost)
	if way != firewall.FromHost {
		set = s.Minus(set, s.device(s.in, "lo"))
	} else {
		set = s.Minus(set, s.Bit(s.path.present))
	}
	if way != firewall.ToHost {
		return s.Minus(set, s.device(s.out, "lo"))
	}
	return s.Minus(set, s.Bit(s.ahead.present))
}

type turned struct {
	Turn
	set Set
}

func (s model) turns(was, is *Fate) []turned {
	gone, goes := s.Or(was.Dropped, was.Rejected), s.Or(is.Dropped, is.Rejected)
	return []turned{
		{LetIn, s.Minus(is.Accepted, was.Accepted)}, {NotLetIn, s.And(s.Minus(was.Accepted, is.Accepted), is.Left)},
		{Guarded, s.Minus(goes, gone)}, {Unguarded, s.And(gone, is.Left)},
	}
}

// changes divides packets into regions of plain ones, and the rest.
func (w *Firewall) changes(way firewall.Way, turn Turn, set Set) []Change {
	var list []Change
	change := func(of Set) Change {
		return Change{Turn: turn, Family: w.Family, Ways: []firewall.Way{way}, Packet: w.Witness(way, of)}
	}
	rest := set
	for _, path := range []Path{InClear, OutOfSA, IntoSA} {
		plain := w.And(set, w.plainOn(way, path))
		if plain == None || turn == Guarded && path != InClear {
			continue
		}
		if path == IntoSA { // the policy tells the addresses
			c := change(plain)
			c.Path = path
			list = append(list, c)
			continue
		}
		n := 0
		w.regions(plain, func(src, dst netip.Prefix, of Set) bool {
			if n++; n > mostOf {
				list[len(list)-1].More = true
				return false
			}
			c := change(of)
			c.Path, c.Src, c.Dst, c.Services = path, src, dst, w.servicesOf(of)
			list = append(list, c)
			return true
		})
		// What holds for plain packets holds for others between these addresses.
		rest = w.Minus(rest, w.Without(plain, func(bit int) bool { return !slices.Contains(w.src, bit) && !slices.Contains(w.dst, bit) }))
	}
	if len(list) == 0 && rest != None {
		list = append(list, change(rest))
	}
	return list
}

// plainOn are new packets on a path, as they are without any mark, but for TAG on packets
// out of an SA.
func (s model) plainOn(way firewall.Way, path Path) Set {
	set := s.Minus(s.number(s.fwmark, 0), s.quoting())
	if path != InClear {
		set = s.Minus(set, s.opened())
	}
	for _, b := range []struct {
		bit int
		is  bool
	}{
		{s.related, false}, {s.established, false}, {s.reply, false}, {s.snat, false}, {s.dnat, false}, {s.verified, false}, {s.misrouted, false},
		{s.tagged, path == OutOfSA}, {s.path.present, path == OutOfSA}, {s.ahead.present, path == IntoSA}, {s.dstLocal, way == firewall.ToHost},
	} {
		set = s.And(set, negated(s.Bit(b.bit), !b.is))
	}
	return set
}

// regions calls yield with prefixes that hold a set's packets, and those packets.
func (s model) regions(set Set, yield func(src, dst netip.Prefix, of Set) bool) {
	ends := s.Without(set, func(bit int) bool { return !slices.Contains(s.src, bit) && !slices.Contains(s.dst, bit) })
	s.Prefixes(ends, s.src, func(src []byte, srcBits int, rest Set) bool {
		return s.Prefixes(rest, s.dst, func(dst []byte, dstBits int, _ Set) bool {
			from, to := prefixOf(src, srcBits), prefixOf(dst, dstBits)
			return yield(from, to, s.And(set, s.And(s.within(s.src, from), s.within(s.dst, to))))
		})
	})
}

func prefixOf(b []byte, bits int) netip.Prefix {
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, bits)
}

// servicesOf are the protocols and ports of packets, none where nearly all protocols are
// among them.
func (s model) servicesOf(set Set) []firewall.Service {
	var list []firewall.Service
	protos := s.Without(set, func(bit int) bool { return !slices.Contains(s.proto, bit) && !slices.Contains(s.dport, bit) })
	n := 0
	for p := range 256 {
		of := s.And(protos, s.number(s.proto, uint64(p)))
		if of == None {
			continue
		}
		if n++; n > mostTail {
			return nil
		}
		proto := xfrm.Proto(p)
		if proto != xfrm.TCP && proto != xfrm.UDP && proto != xfrm.SCTP {
			list = append(list, firewall.Service{Proto: proto})
			continue
		}
		ports := s.Without(of, func(bit int) bool { return !slices.Contains(s.dport, bit) })
		s.Prefixes(ports, s.dport, func(value []byte, bits int, _ Set) bool {
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
			return o.Turn == c.Turn && o.Path == c.Path && o.Src == c.Src && o.Dst == c.Dst && slices.Equal(o.Services, c.Services)
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
