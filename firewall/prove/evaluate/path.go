package evaluate

import (
	"iter"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// Path is a way through the rules: packets that meet the same rules in the same order.
type Path struct {
	// Rules are those that match, in all tables but nat.
	Rules []*rules.Rule
	// Packets are those that take the path. They are not empty.
	Packets space.Set
}

// Paths divides packets by the rules of iptables that they meet on their way. Tables of
// nftables have no part in it.
func (w *Firewall) Paths(way firewall.Way, from space.Set) iter.Seq[Path] {
	hooks := slices.DeleteFunc(slices.Clone(routes[way]), func(at place) bool { return at == natPost })
	return func(yield func(Path) bool) {
		p := &paths{w: w, way: way, hooks: hooks, yield: yield, matches: make(map[matchKey]space.Set)}
		for mark, set := range w.arriving(way, from) {
			p.hook(0, mark, set)
		}
	}
}

// paths is a walk along all paths.
type paths struct {
	w       *Firewall
	way     firewall.Way
	hooks   []place
	trail   []*rules.Rule
	yield   func(Path) bool
	ended   bool
	matches map[matchKey]space.Set
}

type matchKey struct {
	rule *rules.Rule
	at   place
}

// hook sends packets with one mark through a hook and all behind it.
func (p *paths) hook(i, mark int, set space.Set) {
	if set == space.None || p.ended {
		return
	}
	if i == len(p.hooks) {
		p.end(set)
		return
	}
	e := p.w.hook(p.way, p.hooks[i])
	for _, h := range e.rules.hooks {
		if h.Table == p.hooks[i].table && h.From == p.hooks[i].hook {
			p.chain(e, i, rules.ChainKey{Table: h.Table, Name: h.To}, 0, mark, set, func(mark int, set space.Set) { p.hook(i+1, mark, set) })
			return
		}
	}
	p.hook(i+1, mark, set)
}

func (p *paths) end(set space.Set) {
	p.ended = p.ended || !p.yield(Path{slices.Clone(p.trail), set})
}

// chain sends packets through the rules of a chain from one on. Back takes those that come
// back.
func (p *paths) chain(e *evaluator, hook int, at rules.ChainKey, from, mark int, set space.Set, back func(mark int, set space.Set)) {
	list := e.rules.chains[at]
	for i := from; i < len(list) && set != space.None && !p.ended; i++ {
		r := &list[i]
		if !e.marked(r.Mark, e.mark(mark)) {
			continue
		}
		match := p.matching(e, hook, r)
		if hit := e.And(set, match); hit != space.None {
			p.trail = append(p.trail, r)
			next := func(mark int, set space.Set) { p.chain(e, hook, at, i+1, mark, set, back) }
			switch t := r.Target; t.Verb {
			case rules.Drop, rules.Reject:
				p.end(hit)
			case rules.Accept:
				p.hook(hook+1, mark, hit)
			case rules.Return:
				back(mark, hit)
			case rules.Goto:
				p.chain(e, hook, rules.ChainKey{Table: at.Table, Name: t.Chain}, 0, mark, hit, back)
			case rules.Jump:
				p.chain(e, hook, rules.ChainKey{Table: at.Table, Name: t.Chain}, 0, mark, hit, next)
			case rules.SetMark:
				next(e.index(e.mark(mark)&^t.Mask^t.Value), hit)
			default:
				next(mark, hit)
			}
			p.trail = p.trail[:len(p.trail)-1]
		}
		set = e.Minus(set, match)
	}
	if set != space.None && !p.ended {
		back(mark, set)
	}
}

func (p *paths) matching(e *evaluator, hook int, r *rules.Rule) space.Set {
	key := matchKey{r, p.hooks[hook]}
	set, ok := p.matches[key]
	if !ok {
		set = e.matching(r, e.at)
		p.matches[key] = set
	}
	return set
}
