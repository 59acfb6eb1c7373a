package firewall

import (
	"maps"
	"reflect"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Compiler compiles again and again, as a daemon does, and makes anew only what
// has changed since the last time. Its results are those of Compile, byte for
// byte. The zero value is ready to use; it is not for concurrent use.
//
// Results share memory with the Compiler and with each other, so nobody may
// write to them. The rules of a chain that has not changed are the same list as
// in the result before, by which a Planner knows it.
type Compiler struct {
	in     Input
	result Result
	memo   memo
}

// Compile says which rules the host should have.
func (c *Compiler) Compile(in Input) Result {
	around := c.memo.turn > 0 && sameAround(c.in, in)
	if around && sameSet(c.in, in) {
		return c.result
	}
	c.memo.begin(in.Config.Marks)
	if !around {
		c.memo.survey = survey{}
	}
	result := compile(in, &c.memo)
	c.memo.end()
	keepRules(c.result.Rulesets, result.Rulesets)
	c.in, c.result = in, result
	return result
}

// keepRules gives chains that have the same rules as before the very same list.
// Both are in the order of Rulesets.
func keepRules(before, after []Ruleset) {
	for i := range after {
		if i >= len(before) || before[i].Family != after[i].Family {
			return
		}
		old, chains := before[i].Chains, after[i].Chains
		for j := range chains {
			for len(old) > 0 && compareChains(old[0], chains[j]) < 0 {
				old = old[1:]
			}
			if len(old) > 0 && compareChains(old[0], chains[j]) == 0 && old[0].Rules.equal(chains[j].Rules) {
				chains[j].Rules = old[0].Rules
			}
		}
	}
}

// sameSet and sameAround report whether two inputs make the same result: whether
// they differ in nothing but what changes with each packet and each rekey.
func sameSet(a, b Input) bool {
	if len(a.Set.Tunnels) != len(b.Set.Tunnels) {
		return false
	}
	for i := range a.Set.Tunnels {
		if !sameTunnel(&a.Set.Tunnels[i], &b.Set.Tunnels[i]) {
			return false
		}
	}
	return slices.Equal(a.Set.Exceptions, b.Set.Exceptions) && slices.Equal(a.Guards, b.Guards)
}

// sameAround leaves out the tunnels and what guards there are.
func sameAround(a, b Input) bool {
	return sameHost(a.Host, b.Host) &&
		slices.Equal(a.NATSources, b.NATSources) &&
		maps.Equal(a.Peers, b.Peers) &&
		a.MarksWritten == b.MarksWritten &&
		reflect.DeepEqual(a.Config, b.Config)
}

func sameTunnel(a, b *xfrm.Tunnel) bool {
	return a.ID == b.ID && a.Reqid == b.Reqid && a.Proto == b.Proto && a.Mode == b.Mode && a.Comp == b.Comp &&
		a.Local == b.Local && a.Remote == b.Remote && a.IfID == b.IfID && a.Optional == b.Optional &&
		same(a.Pairs, b.Pairs, func(p, q *xfrm.Pair) bool { return *p == *q }) && same(a.SAs, b.SAs, sameSA)
}

// same compares two lists, which are one and the same mostly.
func same[T any](a, b []T, equal func(a, b *T) bool) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		if !equal(&a[i], &b[i]) {
			return false
		}
	}
	return true
}

// sameSA leaves out what tells a state from its successor.
func sameSA(a, b *xfrm.SA) bool {
	like := *a
	like.SPI, like.AddTime, like.UseTime, like.Bytes, like.Packets, like.Errors = b.SPI, b.AddTime, b.UseTime, b.Bytes, b.Packets, b.Errors
	return like == *b
}

func sameHost(a, b xfrm.Host) bool {
	if !slices.Equal(a.Links, b.Links) || !slices.Equal(a.Addresses, b.Addresses) || !slices.Equal(a.Routes, b.Routes) {
		return false
	}
	a.Links, a.Addresses, a.Routes = b.Links, b.Addresses, b.Routes
	return reflect.DeepEqual(a, b)
}
