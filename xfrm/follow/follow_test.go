package follow

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"

	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

func followedPolicy(reqid, index uint32, dir xfrm.Dir) xfrm.Policy {
	return xfrm.Policy{Dir: dir, Index: index, Priority: 5, Templates: []xfrm.Template{{Family: xfrm.IPv4, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid}}}
}

// The records after notifications in any order are those of a snapshot made afresh.
func TestFollowerKeepsUp(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 18))
		states, policies := make(map[uint32]xfrm.State), make(map[policyID]xfrm.Policy)
		whole := func() xfrm.Snapshot {
			var s xfrm.Snapshot
			for _, st := range states {
				s.States = append(s.States, st)
			}
			for _, p := range policies {
				s.Policies = append(s.Policies, p)
			}
			s.Sort()
			return s
		}
		event := func() wire.Note {
			if spi := uint32(1 + r.IntN(12)); r.IntN(2) == 0 {
				old, known := states[spi]
				if known {
					delete(states, spi)
					return [2]func(xfrm.State) wire.Note{deleted, expired}[r.IntN(2)](old)
				}
				states[spi] = indexState(spi, func(s *xfrm.State) { s.Reqid = 1 + spi%4 })
				return added(states[spi])
			}
			p := followedPolicy(uint32(1+r.IntN(4)), 0, xfrm.Dir(r.IntN(3)))
			p.Index = p.Templates[0].Reqid*8 + uint32(p.Dir)
			id := policyIDOf(&p)
			if old, known := policies[id]; known && r.IntN(2) == 0 {
				delete(policies, id)
				return wire.Note{Event: wire.PolicyDeleted, Policy: old}
			}
			p.Priority = uint32(r.IntN(3))
			policies[id] = p
			return wire.Note{Event: wire.PolicyUpdated, Policy: p}
		}
		for range 10 {
			event()
		}
		f := NewFollower(whole())
		for range 5 {
			var notes []wire.Note
			for range 1 + r.IntN(5) {
				notes = append(notes, event())
			}
			_, after, ok := f.Take(notes)
			if !ok {
				t.Fatalf("seed %d: lost", seed)
			}
			concerned := make(map[uint32]bool)
			for i := range notes {
				if reqid, ok := f.reqidOf(&notes[i]); ok {
					concerned[reqid] = true
				}
			}
			want := xfrm.Snapshot{Schema: xfrm.SchemaVersion}
			for _, st := range whole().States {
				if concerned[st.Reqid] {
					want.States = append(want.States, st)
				}
			}
			for _, p := range whole().Policies {
				if reqid, _ := p.Protects(); concerned[reqid] {
					want.Policies = append(want.Policies, p)
				}
			}
			if !reflect.DeepEqual(after, want) {
				t.Fatalf("seed %d: follows\n%+v, want\n%+v", seed, after, want)
			}
		}
	}
}

func TestFollowerIsLost(t *testing.T) {
	first := followedPolicy(1, 8, xfrm.In)
	state := indexState(5, func(s *xfrm.State) { s.Reqid = 1 })
	moved := indexState(5, func(s *xfrm.State) { s.Reqid = 2 })
	larval := indexState(6, func(s *xfrm.State) { s.Reqid, s.Algs = 0, xfrm.Algs{} })
	taken := first
	taken.Templates = []xfrm.Template{{Family: xfrm.IPv4, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 2}}
	for _, tt := range []struct {
		name string
		note wire.Note
		ok   bool
	}{
		{"an acquire", wire.Note{Event: wire.Acquire}, true},
		{"a state that was never known goes", deleted(indexState(7, nil)), true},
		{"a state is updated", added(state), true},
		{"a larval state without a reqid becomes one with", added(indexState(6, func(s *xfrm.State) { s.Reqid = 2 })), true},
		{"a larval state ends", deleted(larval), true},
		{"an ID is that of a state of another tunnel", added(moved), false},
		{"a flush", wire.Note{Event: wire.StatesFlushed}, false},
		{"a move", wire.Note{Event: wire.Migrated}, false},
		{"a bypass policy", wire.Note{Event: wire.PolicyAdded, Policy: xfrm.Policy{Dir: xfrm.In, Index: 16}}, false},
		{"a policy without a reqid", wire.Note{Event: wire.PolicyAdded, Policy: followedPolicy(0, 16, xfrm.In)}, false},
		{"a policy that goes to another tunnel", wire.Note{Event: wire.PolicyUpdated, Policy: taken}, false},
		{"a message that was not understood", wire.Note{Event: wire.PolicyAdded, Lost: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := NewFollower(xfrm.Snapshot{Policies: []xfrm.Policy{first}, States: []xfrm.State{state, larval}})
			if _, _, ok := f.Take([]wire.Note{tt.note}); ok != tt.ok {
				t.Errorf("got %t, want %t", ok, tt.ok)
			}
			if _, _, ok := f.Take(nil); ok != tt.ok {
				t.Errorf("afterwards it is %t, want %t", ok, tt.ok)
			}
		})
	}
}

// A policy that leaves a tunnel for one that is followed already changes both.
func TestFollowerSeesBothTunnelsOfAPolicy(t *testing.T) {
	f := NewFollower(xfrm.Snapshot{Policies: []xfrm.Policy{followedPolicy(1, 8, xfrm.In)}})
	if _, _, ok := f.Take([]wire.Note{{Event: wire.PolicyAdded, Policy: followedPolicy(2, 16, xfrm.In)}}); !ok {
		t.Fatal("lost by a policy of its own")
	}
	if before, after, ok := f.Take([]wire.Note{{Event: wire.PolicyUpdated, Policy: followedPolicy(2, 8, xfrm.In)}}); ok {
		t.Errorf("the former tunnel is left out: before %+v, after %+v", before, after)
	}
}
