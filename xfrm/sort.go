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
	sortPolicies(s.Policies)
	sortStates(s.States)
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

// sortKey holds what decides nearly every comparison. Sorting small keys first
// and moving each large record once costs a third of sorting the records.
type sortKey struct {
	family  uint8
	a, b, c uint64
	at      int32 // the record's place before sorting
}

func (k sortKey) compare(o sortKey) int {
	return cmp.Or(
		cmp.Compare(k.family, o.family),
		cmp.Compare(k.a, o.a),
		cmp.Compare(k.b, o.b),
		cmp.Compare(k.c, o.c),
	)
}

func sortPolicies(p []Policy) {
	sortBy(p, func(x *Policy) sortKey {
		return sortKey{
			a: uint64(x.Dir)<<40 | uint64(x.Selector.Family)<<32 | uint64(x.Priority),
			b: uint64(x.Index)<<32 | uint64(x.IfID),
		}
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
		return sortKey{
			family: uint8(x.Family),
			a:      binary.BigEndian.Uint64(dst[:8]),
			b:      binary.BigEndian.Uint64(dst[8:]),
			c:      uint64(x.Proto)<<32 | uint64(x.SPI),
		}
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

// sortBy sorts records by key, and by tie where the keys are equal.
func sortBy[T any](records []T, key func(*T) sortKey, tie func(a, b *T) int) {
	keys := make([]sortKey, len(records))
	for i := range records {
		keys[i] = key(&records[i])
		keys[i].at = int32(i)
	}
	slices.SortFunc(keys, func(x, y sortKey) int {
		if c := x.compare(y); c != 0 {
			return c
		}
		return tie(&records[x.at], &records[y.at])
	})
	// Follow each cycle of the permutation; a place that is done points to itself.
	for i := range keys {
		if int(keys[i].at) == i {
			continue
		}
		first, to := records[i], i
		for {
			from := int(keys[to].at)
			keys[to].at = int32(to)
			if from == i {
				records[to] = first
				break
			}
			records[to] = records[from]
			to = from
		}
	}
}
