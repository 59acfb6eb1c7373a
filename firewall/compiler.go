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
	if c.memo.turn > 0 && sameInput(c.in, in) {
		return c.result
	}
	c.memo.begin(in.Config.Marks)
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

// sameInput reports whether two inputs make the same result: whether they differ
// in nothing but what changes with each packet and each rekey.
func sameInput(a, b Input) bool {
	return slices.EqualFunc(a.Set.Tunnels, b.Set.Tunnels, sameTunnel) &&
		slices.Equal(a.Set.Exceptions, b.Set.Exceptions) &&
		sameHost(a.Host, b.Host) &&
		slices.Equal(a.Guards, b.Guards) &&
		slices.Equal(a.NATSources, b.NATSources) &&
		maps.Equal(a.Peers, b.Peers) &&
		a.MarksWritten == b.MarksWritten &&
		reflect.DeepEqual(a.Config, b.Config)
}

func sameTunnel(a, b xfrm.Tunnel) bool {
	if !slices.Equal(a.Pairs, b.Pairs) || !slices.EqualFunc(a.SAs, b.SAs, sameSA) {
		return false
	}
	return a.ID == b.ID && a.Reqid == b.Reqid && a.Proto == b.Proto && a.Mode == b.Mode && a.Comp == b.Comp &&
		a.Local == b.Local && a.Remote == b.Remote && a.IfID == b.IfID && a.Optional == b.Optional
}

// sameSA leaves out what tells a state from its successor.
func sameSA(a, b xfrm.SA) bool {
	for _, s := range []*xfrm.SA{&a, &b} {
		s.SPI, s.AddTime, s.UseTime, s.Bytes, s.Packets, s.Errors = 0, 0, 0, 0, 0, xfrm.Errors{}
	}
	return a == b
}

func sameHost(a, b xfrm.Host) bool {
	if !slices.Equal(a.Links, b.Links) || !slices.Equal(a.Addresses, b.Addresses) || !slices.Equal(a.Routes, b.Routes) {
		return false
	}
	a.Links, a.Addresses, a.Routes = b.Links, b.Addresses, b.Routes
	return reflect.DeepEqual(a, b)
}
