package follow

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"

	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

func indexState(spi uint32, change func(*xfrm.State)) xfrm.State {
	s := xfrm.State{
		Family: xfrm.IPv4, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
		SPI: spi, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1, Algs: xfrm.Algs{AEAD: "rfc4106(gcm(aes))", ICVBits: 128}, AddTime: uint64(spi),
	}
	if change != nil {
		change(&s)
	}
	return s
}

func added(s xfrm.State) wire.Note   { return wire.Note{Event: wire.StateAdded, ID: s.ID(), State: s} }
func deleted(s xfrm.State) wire.Note { return wire.Note{Event: wire.StateDeleted, ID: s.ID()} }
func expired(s xfrm.State) wire.Note {
	return wire.Note{Event: wire.StateExpired, ID: s.ID(), State: s}
}
func updated(p xfrm.Policy) wire.Note { return wire.Note{Event: wire.PolicyUpdated, Policy: p} }

// A rekey, make before break, asks for no look; an event that changes a rule does.
func TestIndexKnowsARekey(t *testing.T) {
	first, second := indexState(1, nil), indexState(2, nil)
	policy := xfrm.Policy{Dir: xfrm.In, Index: 8, Priority: 5, Templates: []xfrm.Template{{Family: xfrm.IPv4, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}}
	other := policy
	other.Templates = []xfrm.Template{{Family: xfrm.IPv4, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 2}}
	again := policy
	again.Index = 16
	named := policy
	named.Templates = []xfrm.Template{{Family: xfrm.IPv4, SPI: 2, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}

	x := NewIndex(xfrm.Snapshot{States: []xfrm.State{first}, Policies: []xfrm.Policy{policy}})
	for i, step := range []struct {
		what string
		note wire.Note
		look bool
	}{
		{"the state that is there", added(first), false},
		{"a larval one", added(xfrm.State{Dst: first.Dst, SPI: 9, Proto: xfrm.ESP}), false},
		{"an acquire", wire.Note{Event: wire.Acquire}, false},
		{"the state that it is rekeyed to", added(second), false},
		{"the policy, with another index", updated(again), false},
		{"the policy, for the new state's SPI", updated(named), false},
		{"the policy, for another reqid", updated(other), true},
		{"the old state goes", deleted(first), false},
		{"it goes once more", deleted(first), false},
		{"the last state expires", expired(second), true},
		{"it comes back", added(second), true},
		{"another of its kind", added(first), false},
		{"one with another peer", added(indexState(3, func(s *xfrm.State) { s.Src = netip.MustParseAddr("192.0.2.3") })), true},
		{"one with another encapsulation", added(indexState(4, func(s *xfrm.State) { s.Encap = xfrm.Encap{Type: 2, SPort: 4500, DPort: 4500} })), true},
		{"one with another set-mark", added(indexState(5, func(s *xfrm.State) { s.SetMark = xfrm.Mark{Value: 1, Mask: 1} })), true},
		{"one with other algorithms", added(indexState(6, func(s *xfrm.State) { s.Algs.ICVBits = 64 })), true},
		{"the first with other counters", added(indexState(1, func(s *xfrm.State) { s.Bytes, s.Packets, s.UseTime = 7, 8, 9 })), false},
		{"the first with another reqid", added(indexState(1, func(s *xfrm.State) { s.Reqid = 7 })), true},
		{"whatever has that SPI goes", deleted(first), true},
		{"and again", deleted(first), true},
		{"a flush", wire.Note{Event: wire.StatesFlushed}, true},
		{"a new policy", wire.Note{Event: wire.PolicyAdded}, true},
		{"a policy less", wire.Note{Event: wire.PolicyDeleted}, true},
		{"a soft expiry", wire.Note{Event: wire.StateExpiring}, false},
		{"something new", wire.Note{Event: wire.Unknown}, true},
		{"something not understood", wire.Note{Event: wire.StateAdded, Lost: true}, true},
	} {
		if look := x.Take(step.note); look != step.look {
			t.Errorf("%d: %s: look %v, want %v", i, step.what, look, step.look)
		}
	}
}

// The pseudo states of IPComp have the peer's address in place of an SPI.
func TestIndexTellsPseudoStatesApart(t *testing.T) {
	pseudo := func(spi uint32) xfrm.State {
		return indexState(spi, func(s *xfrm.State) { s.Proto, s.Algs = xfrm.IPIP, xfrm.Algs{} })
	}
	x := NewIndex(xfrm.Snapshot{States: []xfrm.State{pseudo(0xc0000201)}})
	if !x.Take(added(pseudo(0xc0000202))) {
		t.Error("a pseudo state of another peer was taken for a rekey")
	}
}

// Notes are read from the messages, as the kernel lays them out.
func TestNoteOf(t *testing.T) {
	const newSA, delSA, expire, updPolicy, updSA = 0x10, 0x11, 0x18, 0x19, 0x1a // XFRM_MSG_*
	var d wire.Decoder
	body := make([]byte, 24)
	copy(body, []byte{192, 0, 2, 2})
	body[16+3] = 1                              // SPI, in network order
	binary.NativeEndian.PutUint16(body[20:], 2) // AF_INET
	body[22] = byte(xfrm.ESP)
	s := indexState(1, nil)
	x := NewIndex(xfrm.Snapshot{States: []xfrm.State{s}})
	if n := d.NoteOf(delSA, body); n.Lost || n.ID != s.ID() {
		t.Errorf("deletion of %+v, lost %v; want %+v", n.ID, n.Lost, s.ID())
	} else if !x.Take(n) {
		t.Error("the last state went, and no look is asked for")
	}
	for typ, body := range map[uint16][]byte{delSA: body[:23], newSA: body, updSA: nil, updPolicy: body, expire: body} {
		if n := d.NoteOf(typ, body); !x.Take(n) {
			t.Errorf("a message of type %#x that makes no sense asks for no look", typ)
		}
	}
}
