package xfrm

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

func followedPolicy(reqid, index uint32, dir Dir) Policy {
	return Policy{Dir: dir, Index: index, Priority: 5, Templates: []Template{{Family: IPv4, Proto: ESP, Mode: TunnelMode, Reqid: reqid}}}
}

// The records after notifications in any order are those of a snapshot made afresh.
func TestFollowerKeepsUp(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 18))
		states, policies := make(map[uint32]State), make(map[policyID]Policy)
		whole := func() Snapshot {
			var s Snapshot
			for _, st := range states {
				s.States = append(s.States, st)
			}
			for _, p := range policies {
				s.Policies = append(s.Policies, p)
			}
			s.Sort()
			return s
		}
		event := func() Note {
			if spi := uint32(1 + r.IntN(12)); r.IntN(2) == 0 {
				old, known := states[spi]
				if known {
					delete(states, spi)
					return [2]func(State) Note{deleted, expired}[r.IntN(2)](old)
				}
				states[spi] = indexState(spi, func(s *State) { s.Reqid = 1 + spi%4 })
				return added(states[spi])
			}
			p := followedPolicy(uint32(1+r.IntN(4)), 0, Dir(r.IntN(3)))
			p.Index = p.Templates[0].Reqid*8 + uint32(p.Dir)
			id := policyIDOf(&p)
			if old, known := policies[id]; known && r.IntN(2) == 0 {
				delete(policies, id)
				return Note{event: PolicyDeleted, policy: old}
			}
			p.Priority = uint32(r.IntN(3))
			policies[id] = p
			return Note{event: PolicyUpdated, policy: p}
		}
		for range 10 {
			event()
		}
		f := NewFollower(whole())
		for range 5 {
			var notes []Note
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
			want := Snapshot{Schema: SchemaVersion}
			for _, st := range whole().States {
				if concerned[st.Reqid] {
					want.States = append(want.States, st)
				}
			}
			for _, p := range whole().Policies {
				if reqid, _ := protects(&p); concerned[reqid] {
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
	first := followedPolicy(1, 8, In)
	taken := first
	taken.Templates = []Template{{Family: IPv4, Proto: ESP, Mode: TunnelMode, Reqid: 2}}
	for _, tt := range []struct {
		name string
		note Note
		ok   bool
	}{
		{"an acquire", Note{event: Acquire}, true},
		{"a state that was never known goes", deleted(indexState(7, nil)), true},
		{"a flush", Note{event: StatesFlushed}, false},
		{"a move", Note{event: Migrated}, false},
		{"a bypass policy", Note{event: PolicyAdded, policy: Policy{Dir: In, Index: 16}}, false},
		{"a policy without a reqid", Note{event: PolicyAdded, policy: followedPolicy(0, 16, In)}, false},
		{"a policy that goes to another tunnel", Note{event: PolicyUpdated, policy: taken}, false},
		{"a message that was not understood", Note{event: PolicyAdded, lost: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := NewFollower(Snapshot{Policies: []Policy{first}})
			if _, _, ok := f.Take([]Note{tt.note}); ok != tt.ok {
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
	f := NewFollower(Snapshot{Policies: []Policy{followedPolicy(1, 8, In)}})
	if _, _, ok := f.Take([]Note{{event: PolicyAdded, policy: followedPolicy(2, 16, In)}}); !ok {
		t.Fatal("lost by a policy of its own")
	}
	if before, after, ok := f.Take([]Note{{event: PolicyUpdated, policy: followedPolicy(2, 8, In)}}); ok {
		t.Errorf("the former tunnel is left out: before %+v, after %+v", before, after)
	}
}
