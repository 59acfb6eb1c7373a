package evaluate

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// MayPass returns the packets of a set that the rules of other programs can bring past those
// of xfrmfw: each of them may let a packet that it matches go on behind its hook, and change
// bits of its mark. Marked are those that may carry VERIFIED where the rules have told it.
// An accept in a table of iptables ends no chain of a table of nftables.
func (w *Firewall) MayPass(way firewall.Way, from space.Set, others []live.Other) (passes, marked space.Set) {
	if from == space.None {
		return space.None, space.None
	}
	if w.rules == nil {
		return w.mayPassTable(way, from, others)
	}
	marked = space.None
	in := w.arriving(way, from)
	for _, at := range routes[way] {
		if at == natPost {
			continue
		}
		e := w.hook(way, at)
		in = e.rewritten(in, at, true, others)
		around := e.around(in, at, others)
		in = e.join(e.pass(newEffect(), at, in), around)
		in = e.rewritten(in, at, false, others)
		if at == prerouting {
			marked = w.Or(in[verifiedBit], in[verifiedBit|tagBit])
		}
	}
	passes = w.Union(in[:]...)
	if w.table != nil {
		passes = w.Minus(passes, w.tableSurely(way, []rules.Verb{rules.Drop}))
	}
	return passes, marked
}

// mayPassTable is MayPass for a table that decides alone. Rules of iptables may stand before
// and behind each of its chains.
func (w *Firewall) mayPassTable(way firewall.Way, from space.Set, others []live.Other) (passes, marked space.Set) {
	marked = space.None
	in := w.arriving(way, from)
	for _, hook := range netfilterHooks[way] {
		e := w.tableAt(way, hook)
		for _, c := range w.table.bases[hook] {
			in = e.tampered(in, others)
			in = e.base(newTableEffect(), c.Name, in)
		}
		in = e.tampered(in, others)
		if hook == sets.Input || hook == sets.Forward {
			marked = w.Or(in[verifiedBit], in[verifiedBit|tagBit])
		}
	}
	return w.Union(in[:]...), marked
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
			in = e.spread(in, e.matched(o), o.Writes)
		}
	}
	return in
}

// tampered adds the marks that packets may have behind rules of others in any table.
func (e *tableEvaluator) tampered(in stream, others []live.Other) stream {
	for i := range others {
		in = e.spread(in, space.All, others[i].Writes)
	}
	return in
}

// spread adds to a stream the packets that match with all values of some bits of their mark.
func (s model) spread(in stream, match space.Set, bits uint32) stream {
	for at, bit := range []uint32{s.Marks.Tag, s.Marks.Verified} {
		if bits&bit == 0 {
			continue
		}
		out := in
		for m, set := range in {
			to := m ^ 1<<at
			out[to] = s.Or(out[to], s.And(set, match))
		}
		in = out
	}
	return in
}

// MayRewrite returns the packets of a set that a rule of another program may give another
// source before xfrmfw exempts them from that.
func (w *Firewall) MayRewrite(way firewall.Way, from space.Set, others []live.Other) space.Set {
	if w.rules == nil {
		return space.None
	}
	e, list := w.hook(way, natPost), []space.Set(nil)
	for i := range others {
		if o := &others[i]; o.Rewrites && o.Before && o.Table == natPost.table && o.Hook == natPost.hook {
			list = append(list, e.matched(o))
		}
	}
	from = w.And(from, w.Union(list...))
	if w.table != nil {
		from = w.Minus(from, w.bound(way))
	}
	return from
}
