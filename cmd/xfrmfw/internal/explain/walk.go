package explain

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// place is a builtin chain or one of ours.
type place struct {
	table rules.Table
	chain string
}

// walker sends a packet through the hooks and the kernel's policies.
type walker struct {
	world  World
	rules  trace.Evaluator
	family xfrm.Family
	packet trace.Packet

	action Action
	by     By
	// byRules is the action of the rules alone: they are walked to their end even if the
	// kernel drops the packet before.
	byRules Action
	// at is the builtin chain that decided, or the last of filter.
	at      place
	counter string

	policies []Policy
	steps    []Step
	trace    []trace.Step
	// entered are the chains of ours that the packet came into.
	entered []place
}

func (w World) walk(rs rules.Ruleset, p passage) walker {
	k := walker{
		world: w, rules: trace.NewEvaluator(rs), family: rs.Family, packet: p.packet, action: Returned, by: Rest, byRules: Returned,
	}
	for _, h := range rs.Hooks {
		k.entered = append(k.entered, place{h.Table, h.To})
	}
	switch p.way {
	case toHost:
		k.toHost()
	case through:
		k.through()
	case fromHost:
		k.fromHost()
	}
	return k
}

// toHost: the kernel checks the policy behind INPUT, where the packet is
// delivered.
func (k *walker) toHost() {
	arrives := k.pass(rules.Mangle, "PREROUTING") && k.pass(rules.Mangle, "INPUT") && k.pass(rules.Filter, "INPUT")
	if !exempt(k.packet, true) {
		k.policy(xfrm.In, k.world.inbound(xfrm.In, k.packet), arrives)
	}
}

// through: the kernel checks the policy and looks up the one that the packet
// goes into before FORWARD.
func (k *walker) through() {
	arrives := k.pass(rules.Mangle, "PREROUTING")
	k.policy(xfrm.Fwd, k.world.inbound(xfrm.Fwd, k.packet), arrives)
	out := k.world.outbound(k.packet)
	out.Refused = out.Refused || out.Stateless
	k.policy(xfrm.Out, out, arrives)
	k.encrypt(out.Ahead)
	if arrives && k.pass(rules.Mangle, "FORWARD") && k.pass(rules.Filter, "FORWARD") {
		k.leave()
	}
}

// fromHost: a packet that finds no SA passes OUTPUT on its way to nowhere.
func (k *walker) fromHost() {
	var out xfrm.Decision
	if !exempt(k.packet, false) {
		out = k.world.outbound(k.packet)
		k.policy(xfrm.Out, out, true)
		k.encrypt(out.Ahead)
	}
	if out.Stateless {
		k.packet.Out = "lo" // the device of the kernel's route to nowhere (ipv4_blackhole_route)
	}
	if !k.pass(rules.Mangle, "OUTPUT") || !k.pass(rules.Filter, "OUTPUT") {
		return
	}
	if out.Stateless && k.by != Kernel {
		k.action, k.by, k.counter = Dropped, Kernel, xfrm.NoStates
		return
	}
	k.leave()
}

// encrypt has the packet go through SAs, and leave by the way to their peer.
func (k *walker) encrypt(ahead []xfrm.Transform) {
	k.packet.OutBundle = ahead
	if l, ok := k.world.Snapshot.Host.OuterLink(ahead); ok {
		k.packet.Out = l.Name
	}
}

func (k *walker) leave() {
	if !k.pass(rules.Mangle, "POSTROUTING") {
		return
	}
	k.pass(rules.NAT, "POSTROUTING")
	if j, ok := k.world.intoDevice(k.packet); ok {
		if !j.Found || j.Stateless {
			j.Refused, j.Counter = true, xfrm.NoStates
		}
		k.policy(xfrm.Out, j, true)
	}
}

// pass runs one hook and reports whether the packet goes on. A packet that the kernel has
// dropped goes on too, to show the rules that it would meet.
func (k *walker) pass(table rules.Table, hook string) bool {
	packet, verb, trace := k.rules.Trace(table, hook, k.packet)
	k.packet = packet
	k.add(hook, trace)
	switch {
	case verb == rules.Drop:
		k.byRules = Dropped
	case verb == rules.Reject:
		k.byRules = Rejected
	case verb == rules.Accept && table == rules.Filter:
		k.byRules = Accepted
	}
	if k.by == Kernel {
		return verb == rules.Return || verb == rules.Accept
	}
	switch verb {
	case rules.Drop, rules.Reject:
		k.action, k.by, k.at = Dropped, Ours, place{table, hook}
		if verb == rules.Reject {
			k.action = Rejected
		}
		return false
	case rules.Accept:
		if table == rules.Filter {
			k.action, k.by = Accepted, Ours
		}
	}
	if table == rules.Filter {
		k.at = place{table, hook}
	}
	return true
}

// policy notes the kernel's decision, where the packet arrives there.
func (k *walker) policy(d xfrm.Dir, j xfrm.Decision, arrives bool) {
	effect := "not reached: a rule drops the packet first"
	if arrives {
		effect = effectOf(j, d != xfrm.Out, len(k.packet.SecPath) > 0)
	}
	k.policies = append(k.policies, k.world.policy(d, j, effect))
	if arrives && j.Refused && k.by != Kernel {
		k.action, k.by, k.counter = Dropped, Kernel, j.Counter
	}
}

// add notes the rules that the packet met in a hook.
func (k *walker) add(hook string, trace []trace.Step) {
	for _, s := range trace {
		if t := s.Rule.Target; t.Verb == rules.Jump || t.Verb == rules.Goto {
			k.entered = append(k.entered, place{s.Table, t.Chain})
		}
		k.steps = append(k.steps, Step{
			Table: s.Table, Hook: hook, Chain: s.Chain, Place: s.Index + 1,
			ID: rules.ID(k.family, s.Table, s.Chain, s.Rule), Purpose: s.Rule.Purpose, Tunnel: s.Rule.Tunnel,
			Rule: s.Rule.Text(k.family), Unreached: k.by == Kernel,
		})
	}
	k.trace = append(k.trace, trace...)
}
