package ahead

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// withReqid are the records of one reqid, or without are those of all others.
func withReqid(s xfrm.Snapshot, reqid uint32, with bool) xfrm.Snapshot {
	s.States = slices.DeleteFunc(slices.Clone(s.States), func(x xfrm.State) bool { return (x.Reqid == reqid) != with })
	s.Policies = slices.DeleteFunc(slices.Clone(s.Policies), func(p xfrm.Policy) bool {
		if p.Socket() || p.Bypass() || p.Action != xfrm.Allow {
			return with
		}
		for _, t := range p.Templates {
			if t.Proto == xfrm.ESP || t.Proto == xfrm.AH {
				return (t.Reqid == reqid) != with
			}
		}
		return with
	})
	return s
}

// some takes a random part of the records of a reqid away.
func some(r *rand.Rand, s xfrm.Snapshot, reqid uint32) xfrm.Snapshot {
	states, policies := r.IntN(3), r.IntN(3)
	of := withReqid(s, reqid, true)
	keep := func(in int) bool { return in == 0 || in == 1 && r.IntN(2) == 0 }
	var left xfrm.Snapshot
	for _, x := range of.States {
		if keep(states) {
			left.States = append(left.States, x)
		}
	}
	for _, p := range of.Policies {
		if keep(policies) {
			left.Policies = append(left.Policies, p)
		}
	}
	rest := withReqid(s, reqid, false)
	rest.States = append(rest.States, left.States...)
	rest.Policies = append(rest.Policies, left.Policies...)
	rest.Sort()
	return rest
}

// withoutDevices leaves out the devices that tunnels' packets pass through, so that most
// steps can be taken.
func withoutDevices(s xfrm.Snapshot) xfrm.Snapshot {
	s.Host.Links = slices.DeleteFunc(slices.Clone(s.Host.Links), func(l xfrm.Link) bool {
		return l.Kind != "" && l.Kind != "bridge" && l.Kind != "vlan" && l.Kind != "vrf"
	})
	return s
}

func input(in firewall.Input, s xfrm.Snapshot) firewall.Input {
	in.Set, in.Host = xfrm.Tunnels(s), s.Host
	return in
}

// The elements that a change adds ahead are in the whole table of the state that follows,
// and those that it deletes are not.
func TestChangeIsPartOfTheWhole(t *testing.T) {
	taken, asked, elements := 0, 0, 0
	for seed := range uint64(600) {
		s, in := fake.Variety(seed)
		in.NATSources = nil
		r := rand.New(rand.NewPCG(seed, 18))
		if seed%4 > 0 {
			s = withoutDevices(s)
			in.Config.Enforce = false
		}
		if len(s.States) == 0 {
			continue
		}
		reqid := s.States[r.IntN(len(s.States))].Reqid
		a, b := some(r, s, reqid), some(r, s, reqid)
		ia, ib := input(in, a), input(in, b)
		fa, fb := decide.Facts(ia), decide.Facts(ib)
		live, whole := program.Table(&fa, program.Options{}), program.Table(&fb, program.Options{})
		w := NewWorld(ia, &fa, live)
		asked++
		c, ok := w.Change(&live, xfrm.Tunnels(withReqid(a, reqid, true)), xfrm.Tunnels(withReqid(b, reqid, true)))
		if !ok || reqid == 0 {
			continue
		}
		taken++
		for _, op := range c.Ops() {
			switch op := op.(type) {
			case sets.AddElements:
				to, _ := whole.Set(op.Set.Name)
				for _, e := range op.Elements {
					elements++
					if !to.Has(e) {
						t.Errorf("seed %d, reqid %d: added %s, which the whole table lacks", seed, reqid, op)
					}
				}
			case sets.DeleteElements:
				of, _ := whole.Set(op.Set.Name)
				for _, e := range op.Elements {
					elements++
					if of.Has(e) {
						t.Errorf("seed %d, reqid %d: deleted %s, which the whole table has", seed, reqid, op)
					}
				}
			default:
				t.Errorf("seed %d: more than elements: %s", seed, op)
			}
		}
	}
	t.Logf("%d of %d taken, %d elements", taken, asked, elements)
	if taken < asked/4 || elements < 200 {
		t.Errorf("only %d of %d steps were taken, with %d elements", taken, asked, elements)
	}
}
