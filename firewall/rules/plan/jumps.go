package plan

import (
	"maps"
	"slices"
	"strconv"

	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
)

// liveJump is one of our jumps as it stands, behind so many foreign rules.
type liveJump struct {
	live.Rule
	after int
}

// allJumps compares our jumps in all chains that are not ours.
func (d *differ) allJumps() {
	want := make(map[string][]wantedJump)
	for _, j := range d.want.jumps {
		want[j.from] = append(want[j.from], j)
	}
	have := make(map[string][]liveJump)
	length := make(map[string]int)
	for _, c := range d.have.chains {
		if c.Ours() {
			continue
		}
		for i, r := range c.Rules {
			if r.Jump() {
				have[c.Name] = append(have[c.Name], liveJump{r, i - len(have[c.Name])})
			}
		}
		length[c.Name] = len(c.Rules) - len(have[c.Name])
	}
	chains := slices.Collect(maps.Keys(want))
	chains = slices.AppendSeq(chains, maps.Keys(have))
	slices.Sort(chains)
	for _, chain := range slices.Compact(chains) {
		d.chainJumps(chain, want[chain], have[chain], length[chain])
	}
}

// chainJumps mends the jumps of one chain that has so many foreign rules. All
// are taken out, by their own text, and then put in: -D removes the first rule
// of that text, so the other order would take the new one out again. It is one
// commit, so no packet sees the chain without them.
func (d *differ) chainJumps(chain string, want []wantedJump, have []liveJump, foreign int) {
	if slices.EqualFunc(want, have, func(w wantedJump, s liveJump) bool {
		return w.key == d.key(s.Rule) && min(w.after, foreign) == s.after
	}) {
		return
	}
	noted := len(d.differences)
	for _, w := range want {
		n, place := 0, false
		for _, s := range have {
			if d.key(s.Rule) == w.key {
				n++
				place = place || s.after == min(w.after, foreign)
			}
		}
		switch {
		case n == 0:
			d.note(chain, JumpMissing, w.text)
		case n > 1 && !d.want.verbatim:
			d.note(chain, JumpDuplicate, w.text)
		case !place:
			d.note(chain, JumpNotFirst, w.text)
		}
	}
	for _, s := range have {
		if !slices.ContainsFunc(want, func(w wantedJump) bool { return w.key == d.key(s.Rule) }) {
			d.note(chain, JumpUnexpected, s.Raw)
		}
	}
	if len(d.differences) == noted {
		d.note(chain, JumpNotFirst, "")
	}
	d.jumps += len(want) + len(have)
	for _, s := range have {
		d.remove = append(d.remove, "-D "+chain+" "+s.Raw)
	}
	for i, w := range want {
		for _, s := range have {
			if d.key(s.Rule) == w.key {
				w.packets, w.bytes = max(w.packets, s.Packets), max(w.bytes, s.Bytes)
			}
		}
		d.counters = d.counters || w.packets|w.bytes != 0
		w.text = "-I " + chain + " " + strconv.Itoa(min(w.after, foreign)+i+1) + " " + w.text
		d.insert = append(d.insert, w.line)
	}
}
