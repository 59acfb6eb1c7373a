package xfrm_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// sameSet compares a set with one that is joined afresh.
func sameSet(t *testing.T, what string, s xfrm.Snapshot, got xfrm.Set) {
	t.Helper()
	if want := xfrm.Tunnels(s); !reflect.DeepEqual(want, got) {
		t.Fatalf("%s (-afresh +joined):\n%s", what, cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })))
	}
}

// mutations are all snapshots that differ from s in one field of one policy,
// template or state, but for the first policies and states.
func mutations(s xfrm.Snapshot, policies, states int) map[string]xfrm.Snapshot {
	all := make(map[string]xfrm.Snapshot)
	clone := func() xfrm.Snapshot {
		c := s
		c.Policies, c.States = slices.Clone(s.Policies), slices.Clone(s.States)
		for i := range c.Policies {
			c.Policies[i].Templates = slices.Clone(c.Policies[i].Templates)
		}
		return c
	}
	var fields func(path string, at func(*xfrm.Snapshot) reflect.Value)
	fields = func(path string, at func(*xfrm.Snapshot) reflect.Value) {
		c := clone()
		v := at(&c)
		switch x := v.Interface().(type) {
		case netip.Addr:
			v.Set(reflect.ValueOf(netip.MustParseAddr("203.0.113.77")))
		case netip.Prefix:
			v.Set(reflect.ValueOf(netip.MustParsePrefix("10.77.0.0/16")))
		case string:
			v.SetString(x + "x")
		default:
			switch v.Kind() {
			case reflect.Struct:
				for i := range v.NumField() {
					fields(path+"."+v.Type().Field(i).Name, func(s *xfrm.Snapshot) reflect.Value { return at(s).Field(i) })
				}
				return
			case reflect.Slice:
				for i := range v.Len() {
					fields(fmt.Sprintf("%s[%d]", path, i), func(s *xfrm.Snapshot) reflect.Value { return at(s).Index(i) })
				}
				if v.Len() > 0 {
					v.Set(v.Slice(0, v.Len()-1))
				}
			case reflect.Bool:
				v.SetBool(!v.Bool())
			case reflect.Int32:
				v.SetInt(v.Int() + 1)
			default:
				v.SetUint(v.Uint() + 1)
			}
		}
		all[path] = c
	}
	for i := policies; i < len(s.Policies); i++ {
		fields(fmt.Sprintf("policy %d", i), func(s *xfrm.Snapshot) reflect.Value {
			return reflect.ValueOf(s).Elem().FieldByName("Policies").Index(i)
		})
		c := clone()
		c.Policies = slices.Delete(c.Policies, i, i+1)
		all[fmt.Sprintf("without policy %d", i)] = c
	}
	for i := states; i < len(s.States); i++ {
		fields(fmt.Sprintf("state %d", i), func(s *xfrm.Snapshot) reflect.Value { return reflect.ValueOf(s).Elem().FieldByName("States").Index(i) })
		c := clone()
		c.States = slices.Delete(c.States, i, i+1)
		all[fmt.Sprintf("without state %d", i)] = c
		c = clone()
		c.States[i] = c.States[(i+1)%len(c.States)]
		all[fmt.Sprintf("another state %d", i)] = c
	}
	return all
}

// manySites has so many other tunnels that one more or less is a small change.
func manySites() gate {
	var g gate
	for n := range uint32(40) {
		peer := fmt.Sprintf("198.51.100.%d", n+1)
		g.site(100+n, peer, "10.2.0.0/24", fmt.Sprintf("10.100.%d.0/24", n))
		g.states(100+n, peer, 0x1000+2*n, nil)
	}
	return g
}

// A Joiner that has seen a snapshot joins one that differs in any one field, and
// then the former one again, as if it had seen neither.
func TestJoinerMissesNoField(t *testing.T) {
	g := manySites()
	policies, states := len(g.Policies)-3, len(g.States)-2
	g.site(1, "192.0.2.1", "10.2.0.0/24", "10.1.0.0/24")
	g.states(1, "192.0.2.1", 0x100, func(s *xfrm.State) { s.Encap = xfrm.Encap{Type: 2, SPort: 4500, DPort: 4500} })
	g.pair("10.2.0.0/24", "10.9.0.0/24", nil, nil, nil) // a bypass
	g.pair("0.0.0.0/0", "0.0.0.0/0", []xfrm.Template{{Family: xfrm.IPv4, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 2}},
		[]xfrm.Template{{Family: xfrm.IPv4, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 2}}, nil)
	g.states(2, "192.0.2.9", 0x200, nil)
	g.states(3, "192.0.2.3", 0x300, nil) // no policy asks for these
	g.Host.Addresses = []xfrm.Address{{Link: 2, Prefix: netip.MustParsePrefix("192.0.2.2/24")}}
	n := 0
	for what, s := range mutations(g.Snapshot, policies, states) {
		var j xfrm.Joiner
		first := j.Tunnels(g.Snapshot)
		sameSet(t, "first", g.Snapshot, first)
		sameSet(t, what, s, j.Tunnels(s))
		sameSet(t, "first, after "+what, g.Snapshot, first)
		sameSet(t, "after "+what, g.Snapshot, j.Tunnels(g.Snapshot))
		n++
	}
	if n < 500 {
		t.Errorf("only %d mutations", n)
	}
	moved := g.Snapshot
	moved.Host.Addresses = []xfrm.Address{{Link: 2, Prefix: netip.MustParsePrefix("192.0.2.9/24")}}
	moved.Skipped = []xfrm.Ignored{{Object: "a state", Reason: "of a kind that is new"}}
	var j xfrm.Joiner
	j.Tunnels(g.Snapshot)
	sameSet(t, "another address", moved, j.Tunnels(moved))
}

// Tunnels come, go, change places, and take the same selectors, reqids and names.
func TestJoinerFollows(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		var j xfrm.Joiner
		type site struct{ reqid, net, peer, spi uint32 }
		var sites []site
		for n := range uint32(60) {
			sites = append(sites, site{n, n, n, 2 * n})
		}
		for step := range 60 {
			for range 1 + r.IntN(3) {
				at := &sites[r.IntN(len(sites))]
				switch r.IntN(6) {
				case 0:
					at.reqid = r.Uint32N(70)
				case 1:
					at.net = r.Uint32N(70)
				case 2:
					at.peer = r.Uint32N(70)
				case 3:
					at.spi = 2 * r.Uint32N(1000)
				case 4:
					sites = append(sites, site{r.Uint32N(100), r.Uint32N(100), r.Uint32N(100), 2 * r.Uint32N(1000)})
				case 5:
					sites = slices.Delete(sites, 0, 1)
				}
			}
			var g gate
			for _, s := range sites {
				peer := fmt.Sprintf("198.51.100.%d", s.peer+1)
				g.site(s.reqid, peer, "10.2.0.0/24", fmt.Sprintf("10.100.%d.0/24", s.net))
				if s.spi%6 != 0 {
					g.states(s.reqid, peer, s.spi+1, nil)
				}
			}
			g.Sort()
			sameSet(t, fmt.Sprintf("seed %d step %d", seed, step), g.Snapshot, j.Tunnels(g.Snapshot))
		}
	}
}

// Where the policies of a tunnel differ in a value that it has only one of, their order
// decides, and so it does for a Joiner: a daemon that installs policies anew changes
// their order and nothing else.
func TestJoinerSeesAnotherOrder(t *testing.T) {
	before := manySites()
	for i, ifID := range []uint32{5, 6} {
		remote := fmt.Sprintf("10.%d.0.0/24", 1+i)
		in, out := tmpl(1, "192.0.2.1", "192.0.2.2"), tmpl(1, "192.0.2.2", "192.0.2.1")
		before.pair("10.2.0.0/24", remote, []xfrm.Template{in}, []xfrm.Template{out}, func(p *xfrm.Policy) { p.IfID = ifID })
	}
	last := len(before.Policies)
	after := before.Snapshot
	after.Policies = slices.Concat(before.Policies[:last-6], before.Policies[last-3:], before.Policies[last-6:last-3])
	var j xfrm.Joiner
	sameSet(t, "first", before.Snapshot, j.Tunnels(before.Snapshot))
	sameSet(t, "in another order", after, j.Tunnels(after))
	if reflect.DeepEqual(xfrm.Tunnels(before.Snapshot), xfrm.Tunnels(after)) {
		t.Error("the order of these policies makes no difference")
	}
}

// A tunnel can have more states than there are bits to tell them by.
func TestJoinerAndManyStates(t *testing.T) {
	for _, pairs := range []int{31, 32, 33, 40} {
		g := manySites()
		g.site(1, "192.0.2.1", "10.2.0.0/24", "10.1.0.0/24")
		for n := range pairs {
			g.states(1, "192.0.2.1", uint32(0x100000+2*n), nil)
		}
		var j xfrm.Joiner
		sameSet(t, "first", g.Snapshot, j.Tunnels(g.Snapshot))
		sameSet(t, "again", g.Snapshot, j.Tunnels(g.Snapshot))
		// One shows twice, and another no more.
		for _, at := range []int{0, 5, 2*pairs - 2} {
			s := g.Snapshot
			s.States = slices.Clone(g.States)
			last := len(s.States) - 1
			from := last - 2*pairs + 1
			s.States[last] = s.States[from+at]
			sameSet(t, fmt.Sprintf("%d pairs of states, %d twice", pairs, at), s, j.Tunnels(s))
			sameSet(t, "as before", g.Snapshot, j.Tunnels(g.Snapshot))
		}
	}
}
