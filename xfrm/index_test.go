package xfrm

import (
	"net/netip"
	"testing"
)

func indexState(spi uint32, change func(*State)) State {
	s := State{
		Family: IPv4, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
		SPI: spi, Proto: ESP, Mode: TunnelMode, Reqid: 1, Algs: Algs{AEAD: "rfc4106(gcm(aes))", ICVBits: 128}, AddTime: uint64(spi),
	}
	if change != nil {
		change(&s)
	}
	return s
}

func added(s State) Note    { return Note{event: StateAdded, id: idOf(s), state: s} }
func deleted(s State) Note  { return Note{event: StateDeleted, id: idOf(s)} }
func expired(s State) Note  { return Note{event: StateExpired, id: idOf(s), state: s} }
func updated(p Policy) Note { return Note{event: PolicyUpdated, policy: p} }

// A rekey, make before break, asks for no look; an event that changes a rule does.
func TestIndexKnowsARekey(t *testing.T) {
	first, second := indexState(1, nil), indexState(2, nil)
	policy := Policy{Dir: In, Index: 8, Priority: 5, Templates: []Template{{Family: IPv4, Proto: ESP, Mode: TunnelMode, Reqid: 1}}}
	other := policy
	other.Templates = []Template{{Family: IPv4, Proto: ESP, Mode: TunnelMode, Reqid: 2}}
	again := policy
	again.Index = 16
	named := policy
	named.Templates = []Template{{Family: IPv4, SPI: 2, Proto: ESP, Mode: TunnelMode, Reqid: 1}}

	x := NewIndex(Snapshot{States: []State{first}, Policies: []Policy{policy}})
	for i, step := range []struct {
		what string
		note Note
		look bool
	}{
		{"the state that is there", added(first), false},
		{"a larval one", added(State{Dst: first.Dst, SPI: 9, Proto: ESP}), false},
		{"an acquire", Note{event: Acquire}, false},
		{"the state that it is rekeyed to", added(second), false},
		{"the policy, with another index", updated(again), false},
		{"the policy, for the new state's SPI", updated(named), false},
		{"the policy, for another reqid", updated(other), true},
		{"the old state goes", deleted(first), false},
		{"it goes once more", deleted(first), false},
		{"the last state expires", expired(second), true},
		{"it comes back", added(second), true},
		{"another of its kind", added(first), false},
		{"one with another peer", added(indexState(3, func(s *State) { s.Src = netip.MustParseAddr("192.0.2.3") })), true},
		{"one with another encapsulation", added(indexState(4, func(s *State) { s.Encap = Encap{2, 4500, 4500} })), true},
		{"one with another set-mark", added(indexState(5, func(s *State) { s.SetMark = Mark{1, 1} })), true},
		{"one with other algorithms", added(indexState(6, func(s *State) { s.Algs.ICVBits = 64 })), true},
		{"the first with other counters", added(indexState(1, func(s *State) { s.Bytes, s.Packets, s.UseTime = 7, 8, 9 })), false},
		{"the first with another reqid", added(indexState(1, func(s *State) { s.Reqid = 7 })), true},
		{"whatever has that SPI goes", deleted(first), true},
		{"and again", deleted(first), true},
		{"a flush", Note{event: StatesFlushed}, true},
		{"a new policy", Note{event: PolicyAdded}, true},
		{"a policy less", Note{event: PolicyDeleted}, true},
		{"a soft expiry", Note{event: StateExpiring}, false},
		{"something new", Note{event: Unknown}, true},
		{"something not understood", Note{event: StateAdded, lost: true}, true},
	} {
		if look := x.Take(step.note); look != step.look {
			t.Errorf("%d: %s: look %v, want %v", i, step.what, look, step.look)
		}
	}
}

// The pseudo states of IPComp have the peer's address in place of an SPI.
func TestIndexTellsPseudoStatesApart(t *testing.T) {
	pseudo := func(spi uint32) State {
		return indexState(spi, func(s *State) { s.Proto, s.Algs = IPIP, Algs{} })
	}
	x := NewIndex(Snapshot{States: []State{pseudo(0xc0000201)}})
	if !x.Take(added(pseudo(0xc0000202))) {
		t.Error("a pseudo state of another peer was taken for a rekey")
	}
}

// Notes are read from the messages, as the kernel lays them out.
func TestNoteOf(t *testing.T) {
	var d Decoder
	body := make([]byte, 24)
	copy(body, []byte{192, 0, 2, 2})
	body[16+3] = 1                 // SPI, in network order
	native.PutUint16(body[20:], 2) // AF_INET
	body[22] = byte(ESP)
	s := indexState(1, nil)
	x := NewIndex(Snapshot{States: []State{s}})
	if n := d.NoteOf(msgDelSA, body); n.lost || n.id != idOf(s) {
		t.Errorf("deletion of %+v, lost %v; want %+v", n.id, n.lost, idOf(s))
	} else if !x.Take(n) {
		t.Error("the last state went, and no look is asked for")
	}
	for typ, body := range map[uint16][]byte{msgDelSA: body[:23], msgNewSA: body, msgUpdSA: nil, msgUpdPolicy: body, msgExpire: body} {
		if n := d.NoteOf(typ, body); !x.Take(n) {
			t.Errorf("a message of type %#x that makes no sense asks for no look", typ)
		}
	}
}
