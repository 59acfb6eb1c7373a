package evaluate

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Undone is the effect of other programs on packets.
type Undone struct {
	// Passes are the packets that may get past all rules.
	Passes space.Set
	// Verified are those that may carry VERIFIED where the rules have told it, Seen those that
	// may where the rest of the firewall asks for it.
	Verified, Seen space.Set
	// Cut are those that may be dropped or not be accepted, if asked for.
	Cut space.Set
}

// May returns the most that other programs may do to packets of a set. Each of their rules may
// let a packet that it matches go on behind its hook, and change bits of its mark, each of
// their chains do as an Other tells. An accept in a table of iptables ends no chain of a table
// of nftables.
func (w *Firewall) May(way firewall.Way, from space.Set, others []live.Other) Undone {
	u := w.may(way, from, others, false)
	if among := w.untrackable(way, from, others); among != space.None {
		v := w.withoutConntrack().may(way, among, others, false)
		u.Passes, u.Verified, u.Seen = w.Or(u.Passes, v.Passes), w.Or(u.Verified, v.Verified), w.Or(u.Seen, v.Seen)
	}
	return u
}

// MayCut returns the packets of a set, which are accepted, that may not be any more.
func (w *Firewall) MayCut(way firewall.Way, from space.Set, others []live.Other) space.Set {
	return w.may(way, from, others, true).Cut
}

func (w *Firewall) may(way firewall.Way, from space.Set, others []live.Other, cuts bool) Undone {
	u := Undone{Passes: space.None, Verified: space.None, Seen: space.None, Cut: space.None}
	if from == space.None {
		return u
	}
	in := w.carried(way, w.arriving(way, from), others)
	for _, hook := range netfilterHooks[way] {
		low, around := int32(math.MinInt32), nothing
		meet := func(high int32, late bool) stream {
			return w.meet(way, from, in, others, func(o *live.Other) bool {
				return o.Hook == builtin(hook) && o.Priority >= low && o.Priority <= high && (late || !o.Late)
			})
		}
		stops := func(s station) bool {
			return slices.ContainsFunc(others, func(o live.Other) bool {
				behind := o.Priority > s.priority || o.Table != "" && o.Table == s.at.table && !o.Before
				return o.Stops && o.Hook == builtin(hook) && o.Priority >= low && !behind
			})
		}
		for _, s := range w.stations(way, hook) {
			in = meet(s.priority, true)
			if stops(s) {
				around = w.join(around, in)
			}
			if cuts {
				u.Cut = w.Or(u.Cut, w.lost(way, s, in))
			}
			in, low = w.through(way, s, in, others), s.priority
		}
		in = w.join(in, around)
		told := meet(math.MaxInt32, false)
		verified := w.Or(told[verifiedBit], told[verifiedBit|tagBit])
		switch {
		case hook == sets.Input || hook == sets.Forward:
			u.Seen = verified
			if w.rules == nil {
				u.Verified, u.Cut = verified, w.Union(u.Cut, told[0], told[tagBit])
			}
		case hook == sets.Prerouting && w.rules != nil:
			u.Verified = verified
		}
		in = meet(math.MaxInt32, true)
	}
	in = w.meet(way, from, in, others, func(o *live.Other) bool { return o.Hook == live.Egress })
	u.Passes = w.Or(w.Union(in[:]...), w.passedBy(way, from, others))
	return u
}

// station is a place of xfrmfw on the way of packets: one of its rules, or a base chain.
type station struct {
	priority int32
	at       place
	hook     sets.Hook
	chain    string
}

func (w *Firewall) stations(way firewall.Way, hook sets.Hook) []station {
	var list []station
	for _, at := range routes[way] {
		if w.rules != nil && at != natPost && at.hook == builtin(hook) {
			priority, _ := at.table.Priority(at.hook)
			list = append(list, station{priority: priority, at: at})
		}
	}
	if w.table != nil {
		for _, c := range w.table.bases[hook] {
			list = append(list, station{priority: c.Base.Priority, hook: hook, chain: c.Name})
		}
	}
	slices.SortStableFunc(list, func(a, b station) int { return cmp.Compare(a.priority, b.priority) })
	return list
}

func builtin(hook sets.Hook) string { return strings.ToUpper(hook.String()) }

// through sends packets through a station, and through the rules of others in the same table.
func (w *Firewall) through(way firewall.Way, s station, in stream, others []live.Other) stream {
	if s.chain != "" {
		return w.tableAt(way, s.hook).base(newTableEffect(), s.chain, in)
	}
	e := w.hook(way, s.at)
	in = e.rewritten(in, s.at, true, others)
	around := e.around(in, s.at, others)
	in = e.join(e.pass(newEffect(), s.at, in), around)
	return e.rewritten(in, s.at, false, others)
}

// lost are the packets that a station drops with one of the marks that they may have, and those
// that filter does not accept.
func (w *Firewall) lost(way firewall.Way, s station, in stream) space.Set {
	lost := space.None
	for m, set := range in {
		one, to := nothing, newEffect()
		one[m] = set
		if s.chain != "" {
			one = w.through(way, s, one, nil)
		} else {
			one = w.hook(way, s.at).pass(to, s.at, one)
		}
		on := w.Union(one[:]...)
		if s.at == filterIn || s.at == filterFwd {
			on = space.None
			for how, ended := range to.ended {
				if how.verb == rules.Accept {
					on = w.Or(on, ended)
				}
			}
		}
		lost = w.Or(lost, w.Minus(set, on))
	}
	return lost
}

// meet sends packets past others, apart from the rules of iptables that through knows.
func (w *Firewall) meet(way firewall.Way, from space.Set, in stream, others []live.Other, there func(*live.Other) bool) stream {
	for i := range others {
		o := &others[i]
		at := place{o.Table, o.Hook}
		if !there(o) || w.rules != nil && at != natPost && slices.Contains(routes[way], at) {
			continue
		}
		in = w.spread(in, space.All, o.Writes, o.Sets)
		if o.Remakes { // each packet may have been another one before
			in[0] = w.Or(in[0], from)
			if way != firewall.FromHost {
				opened := w.And(from, w.Bit(w.Path.Present))
				for m := range in {
					in[m] = w.Or(in[m], opened)
				}
			}
		}
	}
	return in
}

// carried adds the marks that packets may have got before they arrive: as frames, or as a part
// of an outer packet to this host, which the rules of xfrmfw may have met before.
func (w *Firewall) carried(way firewall.Way, in stream, others []live.Other) stream {
	if way == firewall.FromHost {
		return in
	}
	own := w.stations(firewall.ToHost, sets.Input)
	for i := range others {
		o := &others[i]
		bits := o.Sets
		switch {
		case o.Hook == live.Ingress:
		case o.Hook != builtin(sets.Input):
			continue
		case len(own) > 0 && (o.Priority < own[0].priority || o.Priority == own[0].priority && o.Before):
			bits &= w.Marks.Tag
		}
		in = w.spread(in, space.All, 0, bits)
	}
	return in
}

// passedBy are the packets of a set that may be forwarded without a rule.
func (w *Firewall) passedBy(way firewall.Way, from space.Set, others []live.Other) space.Set {
	if way != firewall.Through {
		return space.None
	}
	if slices.ContainsFunc(others, func(o live.Other) bool { return o.Hook == live.Ingress && o.Forwards }) {
		return from
	}
	if !slices.ContainsFunc(others, func(o live.Other) bool { return o.Offloads }) {
		return space.None
	}
	const gre = 47
	flows := w.Or(w.Number(w.Proto, uint64(xfrm.TCP)), w.Or(w.Number(w.Proto, uint64(xfrm.UDP)), w.Number(w.Proto, gre)))
	return w.And(from, w.And(flows, w.Minus(w.Bit(w.Established), w.Bit(w.Related))))
}

// untrackable are the packets of a set that others may keep from conntrack, which NAT then
// leaves alone.
func (w *Firewall) untrackable(way firewall.Way, from space.Set, others []live.Other) space.Set {
	const conntrack = -200 // NF_IP_PRI_CONNTRACK
	at := place{hook: builtin(netfilterHooks[way][0])}
	e := evaluator{model: w.model, at: w.sightAt(way, at)}
	var list []space.Set
	for i := range others {
		o := &others[i]
		if o.Untracks && (o.Hook == at.hook && o.Priority <= conntrack || o.Hook == live.Ingress && way != firewall.FromHost) {
			list = append(list, e.matched(o))
		}
	}
	return w.Minus(w.And(from, w.Union(list...)), w.Or(w.Bit(w.SNAT), w.Bit(w.DNAT)))
}

// withoutConntrack is the firewall for packets that conntrack does not know.
func (w *Firewall) withoutConntrack() *Firewall {
	other := w.Among(w.scope)
	other.untracked = true
	return other
}

// matched are the packets that a rule of another program may match.
func (e *evaluator) matched(o *live.Other) space.Set {
	if !o.Read {
		return space.All
	}
	return e.matching(&o.Matches, e.at)
}

// around are the packets that do not see the rules of xfrmfw at a hook.
func (e *evaluator) around(in stream, at place, others []live.Other) stream {
	out := nothing
	for i := range others {
		o := &others[i]
		if !o.Ends || !o.Before || o.Table != at.table || o.Hook != at.hook {
			continue
		}
		match := e.matched(o)
		for m, set := range in {
			if !o.Read || e.marked(o.Matches.Mark, e.mark(m)) {
				out[m] = e.Or(out[m], e.And(set, match))
			}
		}
	}
	return out
}

// rewritten adds the marks that packets may have behind the rules of others before those of
// xfrmfw at a hook, or behind those.
func (e *evaluator) rewritten(in stream, at place, before bool, others []live.Other) stream {
	for i := range others {
		o := &others[i]
		if o.Before == before && o.Table == at.table && o.Hook == at.hook {
			in = e.spread(in, e.matched(o), o.Writes, o.Sets)
		}
	}
	return in
}

// spread adds to a stream the packets that match with the marks that a change of some bits
// leaves, of which it may set a part.
func (s model) spread(in stream, match space.Set, writes, sets uint32) stream {
	for at, bit := range []uint32{s.Marks.Tag, s.Marks.Verified} {
		out := in
		for m, set := range in {
			if of := []uint32{sets, writes}[m>>at&1]; of&bit != 0 {
				to := m ^ 1<<at
				out[to] = s.Or(out[to], s.And(set, match))
			}
		}
		in = out
	}
	return in
}

// MayRewrite returns the packets of a set that another program may give another source before
// xfrmfw exempts them from that.
func (w *Firewall) MayRewrite(way firewall.Way, from space.Set, others []live.Other) space.Set {
	unbound, e := from, evaluator{model: w.model, at: w.sightAt(way, natPost)}
	if w.table != nil {
		unbound = w.Minus(from, w.bound(way))
	}
	result := space.None
	for i := range others {
		o := &others[i]
		switch {
		case !o.Rewrites || o.Hook != natPost.hook:
		case o.Table == "" && (w.table == nil || !slices.ContainsFunc(w.table.nat, func(c *sets.Chain) bool { return c.Base.Priority < o.Priority })):
			return from
		case o.Table == natPost.table && o.Before && w.rules != nil:
			result = w.Or(result, w.And(unbound, e.matched(o)))
		}
	}
	return result
}
