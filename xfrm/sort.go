package xfrm

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Sort brings everything into an order that depends on the kernel's state
// alone, so that equal snapshots render to equal bytes. Policies come in the
// order of the SPD: direction, family, priority (the lowest number wins), then
// index. States come by destination, protocol and SPI; links by index,
// addresses by link, routes by table and destination.
//
// Among policies of equal priority the kernel takes the one that was inserted
// first. That is the order of indexes, until one of them is updated in place:
// it keeps its index and goes last. The dump does not tell of that.
func (s *Snapshot) Sort() {
	s.SortRecords()
	slices.SortFunc(s.Host.Links, func(a, b Link) int { return cmp.Compare(a.Index, b.Index) })
	slices.SortFunc(s.Host.Addresses, func(a, b Address) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), ComparePrefix(a.Prefix, b.Prefix))
	})
	slices.SortFunc(s.Host.Routes, func(a, b Route) int {
		return cmp.Or(
			cmp.Compare(a.Table, b.Table),
			ComparePrefix(a.Dst, b.Dst),
			cmp.Compare(a.Link, b.Link),
			a.Via.Compare(b.Via),
		)
	})
	slices.SortFunc(s.Skipped, func(a, b Ignored) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Reason, b.Reason))
	})
}

// SortRecords is Sort for the policies and states alone.
func (s *Snapshot) SortRecords() {
	sortPolicies(s.Policies)
	sortStates(s.States)
}

func sortPolicies(p []Policy) {
	sortBy(p, func(x *Policy) sortKey {
		return sortKey{word: [3]uint64{
			1: uint64(x.Dir)<<40 | uint64(x.Selector.Family)<<32 | uint64(x.Priority),
			2: uint64(x.Index)<<32 | uint64(x.IfID),
		}}
	}, func(x, y *Policy) int {
		return cmp.Or(
			cmp.Compare(x.Type, y.Type),
			x.Mark.compare(y.Mark),
			x.Selector.Compare(y.Selector),
		)
	})
}

func sortStates(s []State) {
	sortBy(s, func(x *State) sortKey {
		dst := x.Dst.As16()
		return sortKey{word: [3]uint64{
			binary.BigEndian.Uint64(dst[:8]),
			binary.BigEndian.Uint64(dst[8:]),
			uint64(x.Family)<<40 | uint64(x.Proto)<<32 | uint64(x.SPI),
		}}
	}, func(x, y *State) int {
		return cmp.Or(
			x.Src.Compare(y.Src),
			cmp.Compare(x.Reqid, y.Reqid),
			cmp.Compare(x.IfID, y.IfID),
			x.Mark.compare(y.Mark),
			cmp.Compare(x.CPU, y.CPU),
			cmp.Compare(x.AddTime, y.AddTime),
			x.Selector.Compare(y.Selector),
		)
	})
}

func (m Mark) compare(o Mark) int {
	return cmp.Or(cmp.Compare(m.Value, o.Value), cmp.Compare(m.Mask, o.Mask))
}

// CompareBool compares like cmp.Compare, with false before true.
func CompareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
