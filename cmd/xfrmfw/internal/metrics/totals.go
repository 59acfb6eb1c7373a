package metrics

import (
	"cmp"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
)

// other stands for the tunnels without series of their own. No tunnel's ID is
// like it: those are a letter and ten digits.
const other = "other"

// count is a number of packets and their bytes.
type count struct{ packets, bytes uint64 }

func (c *count) add(d count) {
	c.packets += d.packets
	c.bytes += d.bytes
}

// tunnel is the served counts of one tunnel, or of all others.
type tunnel struct {
	// name is the configuration's, empty for none.
	name     string
	up       bool
	evidence string
	// statesIn and statesOut are the numbers of its states.
	statesIn, statesOut int
	sums
}

// sums only ever grow, as long as the tunnel is served.
type sums struct {
	// in and out are the states' own counters.
	in, out count
	// by is the packets out of the tunnel, by their evidence.
	by [len(evidenceKinds)]count
}

// The kinds of rules that are added up: for each tunnel, and for all at once.
var (
	evidenceKinds = [...]status.Kind{status.KindVerified, status.KindPolicyOnly, status.KindUnconfirmed, status.KindOverlay}
	hostKinds     = [...]status.Kind{
		status.DropSpoof, status.DropInject, status.DropCrossed, status.DropLeak, status.DropRestricted, status.DropLockdown,
		status.DropUnconfirmed, status.NotedStrayTag, status.NotedUnknown,
	}
)

// totals turns the counters of rules and states, which go away with them, into
// sums that only grow: a rekey, a tunnel that leaves or a chain that is written
// anew must not look like a restart, after which a counter's whole value would
// be taken for new. For the same reason the sums begin at zero, for any value that the
// counters have by then.
type totals struct {
	begun bool
	// rules and states are the counters of the last report, but for the zeros.
	rules  map[string]count
	states map[stateKey]count
	// host are the sums of hostKinds.
	host    [len(hostKinds)]count
	tunnels map[string]tunnel
}

type stateKey struct {
	tunnel, spi, dir string
}

// fold adds the counts since the last report, and tells at most limit
// tunnels apart.
func (t *totals) fold(r status.Report, limit int) {
	t.tunnels = t.choose(r.Tunnels, limit)
	rules, states := make(map[string]count), make(map[stateKey]count)
	for _, rule := range r.SharedRules {
		t.rule(rules, rule, nil)
	}
	for _, of := range r.Tunnels {
		key := of.ID
		if _, ok := t.tunnels[key]; !ok {
			key = other
		}
		to := t.tunnels[key]
		for _, rule := range of.Rules {
			t.rule(rules, rule, &to)
		}
		for _, sa := range of.SAs {
			n, sum := &to.statesOut, &to.out
			if sa.Dir == "in" {
				n, sum = &to.statesIn, &to.in
			}
			*n++
			sum.add(grown(t.begun, t.states, states, stateKey{of.ID, sa.SPI, sa.Dir}, count{sa.Packets, sa.Bytes}))
		}
		t.tunnels[key] = to
	}
	t.begun, t.rules, t.states = true, rules, states
}

// rule adds a rule's counts since the last report; to is its tunnel, if it
// has one.
func (t *totals) rule(now map[string]count, rule status.Rule, to *tunnel) {
	if rule.Kind == "" {
		return
	}
	id := rule.ID
	for now[id] != (count{}) {
		id += "+" // the same rule twice in a chain
	}
	d := grown(t.begun, t.rules, now, id, count{rule.Packets, rule.Bytes})
	if i := slices.Index(evidenceKinds[:], rule.Kind); i >= 0 && to != nil {
		to.by[i].add(d)
	}
	if i := slices.Index(hostKinds[:], rule.Kind); i >= 0 {
		t.host[i].add(d)
	}
}

// grown notes a counter and returns by how much it grew. One that is less than
// it was began anew.
func grown[K comparable](begun bool, last, now map[K]count, key K, c count) count {
	if c != (count{}) {
		now[key] = c
	}
	was := last[key]
	switch {
	case !begun:
		return count{}
	case c.packets < was.packets || c.bytes < was.bytes:
		return c
	}
	return count{c.packets - was.packets, c.bytes - was.bytes}
}

// choose returns the tunnels that have series of their own, with the sums that
// they had, and the one of all others, if there are any: those that the
// configuration names come first, then those that had series before.
func (t *totals) choose(all []status.Tunnel, limit int) map[string]tunnel {
	chosen := all
	if len(all) > limit {
		rank := func(of status.Tunnel) int {
			_, had := t.tunnels[of.ID]
			switch {
			case of.Configured:
				return 0
			case had:
				return 1
			}
			return 2
		}
		chosen = slices.SortedFunc(slices.Values(all), func(a, b status.Tunnel) int {
			return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.ID, b.ID))
		})[:max(limit, 0)]
	}
	tunnels := make(map[string]tunnel, len(chosen)+1)
	if sum := t.tunnels[other].sums; sum != (sums{}) || len(all) > len(chosen) {
		tunnels[other] = tunnel{sums: sum}
	}
	for _, of := range chosen {
		to := tunnel{up: of.State == status.Up, evidence: string(of.Evidence), sums: t.tunnels[of.ID].sums}
		if of.Configured {
			to.name = labelValue(of.Name)
		}
		tunnels[of.ID] = to
	}
	return tunnels
}

// maxLabel bounds the served part of a name.
const maxLabel = 64

// labelValue reduces text to characters that need no quoting anywhere. Names of the
// configuration, and the kernel's own, are that already.
func labelValue(text string) string {
	if len(text) > maxLabel {
		text = text[:maxLabel]
	}
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_.-", r) {
			return r
		}
		return '_'
	}, text)
}
