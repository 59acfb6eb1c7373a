package evaluate

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Fate sorts the packets of a space by their verdict. Each packet is in one of Accepted,
// Dropped, Rejected and Left.
type Fate struct {
	// Accepted packets are accepted by a rule of ours, Left ones are left to the rest
	// of the firewall.
	Accepted, Dropped, Rejected, Left space.Set
	// Discarded and Refused are the dropped and the rejected packets by their case.
	Discarded, Refused map[firewall.Case]space.Set
	// after are the packets that a hook let pass, by their mark behind it.
	after map[place]stream
	// met are the packets that matched a rule of a purpose.
	met map[rules.Purpose]space.Set
	// verified are the packets that carry VERIFIED where the rules have told it: behind
	// mangle PREROUTING, or by a table of nftables before filter.
	verified space.Set
}

func newFate() Fate {
	return Fate{
		Accepted: space.None, Dropped: space.None, Rejected: space.None, verified: space.None,
		Discarded: make(map[firewall.Case]space.Set), Refused: make(map[firewall.Case]space.Set), after: make(map[place]stream), met: make(map[rules.Purpose]space.Set),
	}
}

// place is a hook of a table.
type place struct {
	table rules.Table
	hook  string
}

var (
	prerouting = place{rules.Mangle, "PREROUTING"}
	mangleIn   = place{rules.Mangle, "INPUT"}
	mangleFwd  = place{rules.Mangle, "FORWARD"}
	manglePost = place{rules.Mangle, "POSTROUTING"}
	filterIn   = place{rules.Filter, "INPUT"}
	filterFwd  = place{rules.Filter, "FORWARD"}
	filterOut  = place{rules.Filter, "OUTPUT"}
	natPost    = place{rules.NAT, "POSTROUTING"}
)

// routes are the hooks that packets pass on a way, in their order.
var routes = map[firewall.Way][]place{
	firewall.ToHost:   {prerouting, mangleIn, filterIn},
	firewall.Through:  {prerouting, mangleFwd, filterFwd, manglePost, natPost},
	firewall.FromHost: {filterOut, manglePost, natPost},
}

// classified are the purposes that tell the case of a packet that is not dropped.
var classified = []rules.Purpose{
	rules.PurposeVerified, rules.PurposeRelated, rules.PurposeIPComp, rules.PurposePolicyOnly, rules.PurposeUnconfirmed,
	rules.PurposeOverlay, rules.PurposeStranger, rules.PurposeUnknown,
	rules.PurposeAcceptIn, rules.PurposeAcceptOut, rules.PurposeOpen, rules.PurposeService, rules.PurposeStray,
}

// Firewall is all that an engine laid out for one family, ready for questions: rules of
// iptables with or without a table of nftables beside them, or a table that decides.
type Firewall struct {
	model
	rules *ruleset // nil for a table that decides
	hooks map[hookSight]*evaluator
	// table is nil where there is none.
	table  *table
	tables map[sight]*tableEvaluator
	// cases is true if a Fate tells the cases of packets that are not dropped.
	cases bool
	scope space.Set
}

// Among returns the firewall for few packets: parts of the rules that they don't meet are
// not looked into.
func (w *Firewall) Among(scope space.Set) *Firewall {
	few := *w
	few.hooks, few.tables, few.scope = make(map[hookSight]*evaluator), make(map[sight]*tableEvaluator), scope
	return &few
}

type hookSight struct {
	place
	sight
}

// NewFirewall prepares a valid rule set. More are further values that questions ask for.
func NewFirewall(rs rules.Ruleset, f *firewall.Facts, more space.Values, cases bool) *Firewall {
	return newFirewall(rs, more, cases, func(v space.Values) *space.Space { return space.New(rs.Family, f, v, false) })
}

// NewWithoutNAT is NewFirewall with the cases of all packets, of which none is changed by
// DNAT.
func NewWithoutNAT(rs rules.Ruleset, f *firewall.Facts, more space.Values) *Firewall {
	return newFirewall(rs, more, true, func(v space.Values) *space.Space { return space.New(rs.Family, f, v, true) })
}

// NewOfFlow is NewFirewall for the packets of one kind.
func NewOfFlow(rs rules.Ruleset, f *firewall.Facts, more space.Values, k space.Kind) *Firewall {
	return newFirewall(rs, more, false, func(v space.Values) *space.Space { return space.NewOfFlow(rs.Family, f, v, k) })
}

func newFirewall(rs rules.Ruleset, more space.Values, cases bool, in func(space.Values) *space.Space) *Firewall {
	r := newRuleset(rs)
	more.Add(r.values())
	return &Firewall{
		model: model{Space: in(more)}, rules: r, hooks: make(map[hookSight]*evaluator), cases: cases, scope: space.All,
	}
}

// NewBeside is NewFirewall with a table of nftables beside the rules. An empty table is none.
func NewBeside(rs rules.Ruleset, t sets.Table, f *firewall.Facts, more space.Values) *Firewall {
	if len(t.Chains) == 0 {
		return NewFirewall(rs, f, more, false)
	}
	beside := newTable(&t)
	more.Add(beside.values())
	w := NewFirewall(rs, f, more, false)
	w.table, w.tables = beside, make(map[sight]*tableEvaluator)
	return w
}

// NewTable prepares a table of nftables that decides alone, for packets of one family.
// Its fates tell no cases. With noNAT no packet is changed by DNAT.
func NewTable(t sets.Table, family xfrm.Family, f *firewall.Facts, more space.Values, noNAT bool) *Firewall {
	alone := newTable(&t)
	more.Add(alone.values())
	return &Firewall{
		model: model{Space: space.New(family, f, more, noNAT)}, table: alone, tables: make(map[sight]*tableEvaluator), scope: space.All,
	}
}

// Run sends packets on their way through the rules.
func (w *Firewall) Run(way firewall.Way, from space.Set) Fate {
	var f Fate
	if w.rules == nil {
		f = w.runAlone(way, from)
	} else {
		f = w.runRules(way, from, keep)
		if w.table != nil {
			w.runBeside(way, &f)
		}
	}
	w.sort(&f, from)
	return f
}

// Tampered is Run by rules of iptables where another program's rule sets our bits of all
// packets behind mangle PREROUTING.
func (w *Firewall) Tampered(way firewall.Way, from space.Set, tag, verified bool) Fate {
	to := 0
	if tag {
		to |= tagBit
	}
	if verified {
		to |= verifiedBit
	}
	f := w.runRules(way, from, func(in stream) stream {
		out := nothing
		out[to] = w.Union(in[:]...)
		return out
	})
	if w.table != nil {
		w.runBeside(way, &f)
	}
	w.sort(&f, from)
	return f
}

// StillVerified returns the packets of a fate that carry VERIFIED behind mangle INPUT or FORWARD.
func (w *Firewall) StillVerified(way firewall.Way, f *Fate) space.Set {
	at := mangleFwd
	if way == firewall.ToHost {
		at = mangleIn
	}
	return w.Or(f.after[at][verifiedBit], f.after[at][verifiedBit|tagBit])
}

// sort leaves in Accepted the packets that nothing drops, and puts the rest into Left.
func (w *Firewall) sort(f *Fate, from space.Set) {
	gone := w.Or(f.Dropped, f.Rejected)
	f.Accepted = w.Minus(f.Accepted, gone)
	f.Left = w.Minus(from, w.Or(gone, f.Accepted))
}

func keep(in stream) stream { return in }

// runRules sends packets through the rules. Behind mangle PREROUTING they have the marks
// that others leave them.
func (w *Firewall) runRules(way firewall.Way, from space.Set, others func(stream) stream) Fate {
	f := newFate()
	in := w.arriving(way, from)
	for _, at := range routes[way] {
		passed := newEffect()
		in = w.hook(way, at).pass(passed, at, in)
		f.after[at] = in
		for how, set := range passed.ended {
			f.end(w.Space, at, how, set)
		}
		for p, set := range passed.met {
			f.met[p] = w.Or(f.Met(p), set)
		}
		if at == prerouting {
			f.verified = w.Or(in[verifiedBit], in[verifiedBit|tagBit])
			in = others(in)
		}
	}
	return f
}

// runBeside sends the packets that the rules let pass through the table beside them.
func (w *Firewall) runBeside(way firewall.Way, f *Fate) {
	if way == firewall.ToHost {
		return
	}
	to, _ := w.runTable(way, []sets.Hook{sets.Postrouting}, f.after[manglePost])
	f.end(w.Space, place{}, end{verb: rules.Drop, c: firewall.NoCase}, to.dropped)
	f.end(w.Space, place{}, end{verb: rules.Reject, c: firewall.NoCase}, to.refused)
}

// Met returns the packets that matched a rule with a purpose.
func (f *Fate) Met(p rules.Purpose) space.Set {
	if set, ok := f.met[p]; ok {
		return set
	}
	return space.None
}

func (f *Fate) end(s *space.Space, at place, how end, set space.Set) {
	switch how.verb {
	case rules.Accept:
		if at != natPost {
			f.Accepted = s.Or(f.Accepted, set)
		}
		return
	case rules.Drop:
		f.Dropped = s.Or(f.Dropped, set)
		add(s, f.Discarded, how.c, set)
	case rules.Reject:
		f.Rejected = s.Or(f.Rejected, set)
		add(s, f.Refused, how.c, set)
	}
}

// add joins a set to that of a key.
func add[K comparable](s *space.Space, sets map[K]space.Set, key K, set space.Set) {
	if before, ok := sets[key]; ok {
		set = s.Or(before, set)
	}
	sets[key] = set
}

// hook returns the evaluator of a hook's chains.
func (w *Firewall) hook(way firewall.Way, at place) *evaluator {
	key := hookSight{at, w.sightAt(way, at)}
	if e, ok := w.hooks[key]; ok {
		return e
	}
	e := &evaluator{model: w.model, rules: w.rules, at: key.sight, known: make(map[visit]*effect), scope: w.scope, purposes: make(map[rules.Purpose]bool)}
	if w.cases {
		for _, p := range classified {
			e.purposes[p] = true
		}
	}
	w.hooks[key] = e
	return e
}

// pass sends a stream through a hook, adds its effect, and returns the packets that go
// on: those that come back, and those that are accepted.
func (e *evaluator) pass(to *effect, at place, in stream) stream {
	on := nothing
	for _, h := range e.rules.hooks {
		if h.Table != at.table || h.From != at.hook {
			continue
		}
		chain := rules.ChainKey{Table: at.table, Name: h.To}
		back := nothing
		for m, set := range in {
			if set == space.None {
				continue
			}
			back = e.join(back, e.add(to, chain, m, set, firewall.NoCase))
			// An accept is the last that a table says, so no mark changes in it.
			for how, ended := range e.chain(chain, m).ended {
				if how.verb == rules.Accept {
					on[m] = e.Or(on[m], e.And(set, ended))
				}
			}
		}
		in = back
	}
	return e.join(in, on)
}

// arriving divides packets by the bits that they bring.
func (s model) arriving(way firewall.Way, from space.Set) stream {
	in := nothing
	if way == firewall.FromHost {
		in[0] = from
		return in
	}
	for i := range in {
		in[i] = s.And(from, s.And(space.Negated(s.Bit(s.Tagged), i&tagBit == 0), space.Negated(s.Bit(s.Verified), i&verifiedBit == 0)))
	}
	return in
}

// sightAt is the part of a packet that rules can match at a hook.
func (s model) sightAt(way firewall.Way, at place) sight {
	if at == prerouting {
		return sight{path: true, in: true, dstLocal: s.Bit(s.DstLocal)}
	}
	v := sight{
		path: way != firewall.FromHost, ahead: way != firewall.ToHost, in: way != firewall.FromHost && at.hook != "POSTROUTING",
		out: way != firewall.ToHost, routed: true, dstLocal: space.None,
	}
	if at.hook == "POSTROUTING" {
		v.path = false // no rule there may ask
	}
	if way == firewall.ToHost {
		v.dstLocal = space.All
	}
	return v
}
