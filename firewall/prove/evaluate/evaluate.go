// Package evaluate runs sets of packets through all that an engine laid out, as package
// trace runs one packet through rules of iptables: a chain is evaluated once for all
// packets, and its effect is known from then on. A match or statement without a model is an
// error. The package compares with no verdict: package prove does.
package evaluate

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// end is how a packet's way through a chain ends, other than by coming back: the verb,
// and the case of the last rule that led there.
type end struct {
	verb rules.Verb
	c    firewall.Case
}

// effect is the effect of a chain on packets that come with one mark.
type effect struct {
	// back are the packets that come back, by the mark that they have then.
	back stream
	// ended are the packets on which the chain decides.
	ended map[end]space.Set
	// met are the packets that match a rule with one of the purposes asked for.
	met map[rules.Purpose]space.Set
}

func newEffect() *effect {
	return &effect{back: nothing, ended: make(map[end]space.Set), met: make(map[rules.Purpose]space.Set)}
}

// becomes returns the mark of all packets behind the chain, and false if it ends some
// or makes several of them.
func (e *effect) becomes(all space.Set) (int, bool) {
	for m, set := range e.back {
		if set == all {
			return m, len(e.ended) == 0 && len(e.met) == 0
		}
	}
	return 0, false
}

// evaluator knows the effects of chains at one hook. An effect is that on all packets of
// interest:
// the sets of packets that come so far are larger than the conditions of a chain, and
// meet them once.
type evaluator struct {
	model
	rules *ruleset
	at    sight
	known map[visit]*effect
	// scope are the packets of interest: all, or few. Chains that they don't meet are not
	// looked into.
	scope space.Set
	// purposes are those for which effect.met is kept.
	purposes map[rules.Purpose]bool
}

type visit struct {
	chain rules.ChainKey
	mark  int
}

// chain returns the effect of a chain on packets with a mark.
func (e *evaluator) chain(at rules.ChainKey, mark int) *effect {
	if known, ok := e.known[visit{at, mark}]; ok {
		return known
	}
	list := e.rules.chains[at] // a live chain that is unknown has none of our rules
	var result *effect
	if !e.rules.marking[at] && mark != 0 {
		result = e.chain(at, 0).as(mark)
	} else {
		p := pass{evaluator: e, table: at.Table, effect: newEffect(), in: nothing}
		p.in[mark] = e.scope
		for i := range list {
			p.rule(&list[i])
		}
		p.flushAll()
		p.back = e.join(p.back, p.in)
		result = p.effect
	}
	e.known[visit{at, mark}] = result
	return result
}

// as is the effect of a chain that does not read or write the mark.
func (e *effect) as(mark int) *effect {
	other := &effect{back: nothing, ended: e.ended, met: e.met}
	other.back[mark] = e.back[0]
	return other
}

// add adds the effect of a chain on packets with a mark, and returns the packets that
// come back. Lead is the case of the rule that leads there.
func (e *evaluator) add(to *effect, chain rules.ChainKey, mark int, set space.Set, lead firewall.Case) stream {
	back := nothing
	there := e.chain(chain, mark)
	for i, come := range there.back {
		back[i] = e.And(set, come)
	}
	for how, ended := range there.ended {
		if how.c == firewall.NoCase {
			how.c = lead
		}
		e.end(to, how, e.And(set, ended))
	}
	for p, met := range there.met {
		e.meet(to, p, e.And(set, met))
	}
	return back
}

func (e *evaluator) end(to *effect, how end, set space.Set) {
	if before, ok := to.ended[how]; ok {
		set = e.Or(before, set)
	}
	if set != space.None {
		to.ended[how] = set
	}
}

func (e *evaluator) meet(to *effect, p rules.Purpose, set space.Set) {
	if before, ok := to.met[p]; ok {
		set = e.Or(before, set)
	}
	if set != space.None {
		to.met[p] = set
	}
}
