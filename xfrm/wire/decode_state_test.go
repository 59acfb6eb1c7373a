package wire_test

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// secret stands for key bytes in messages.
const secret = "\xdeSECRET-KEY-BYTES\xad"

func TestDecodeStateFields(t *testing.T) {
	w := espState()
	w.Sel = wireSelector{
		Daddr: address("2001:db8:2::"), Saddr: address("2001:db8:1::"),
		Dport: be16(443), DportMask: be16(0xffff), Sport: be16(0x1000), SportMask: be16(0xf000),
		Family: 10, PrefixD: 48, PrefixS: 64, Proto: 6, Ifindex: 7, User: 99,
	}
	w.ID = wireID{Daddr: address("2001:db8::2"), SPI: be32(0x01020304), Proto: 51}
	w.Saddr = address("2001:db8::1")
	w.Lft = wireLifetime{1, 2, 3, 4, 5, 6, 7, 8}
	w.Cur = wireCurrent{9, 10, 11, 12}
	w.ReplayWindow, w.Replay, w.Integ = 13, 14, 15
	w.Seq, w.Reqid = 16, 17
	w.Family = 10
	w.Mode, w.Window, w.Flags = 4, 32, 128|16

	want := xfrm.State{
		Family: xfrm.IPv6,
		Src:    netip.MustParseAddr("2001:db8::1"),
		Dst:    netip.MustParseAddr("2001:db8::2"),
		SPI:    0x01020304,
		Proto:  xfrm.AH,
		Mode:   xfrm.BEETMode,
		Reqid:  17,
		Selector: xfrm.Selector{
			Family:  xfrm.IPv6,
			Src:     netip.MustParsePrefix("2001:db8:1::/64"),
			Dst:     netip.MustParsePrefix("2001:db8:2::/48"),
			Proto:   xfrm.TCP,
			SPort:   xfrm.PortMatch{Port: 0x1000, Mask: 0xf000},
			DPort:   xfrm.PortMatch{Port: 443, Mask: 0xffff},
			Ifindex: 7,
		},
		Flags: 128 | 16, ESN: true, ReplayWindow: 32,
		Bytes: 9, Packets: 10, AddTime: 11, UseTime: 12,
		Lifetime: xfrm.Lifetime{Bytes: 2, Packets: 4, Add: 6, Use: 8},
		Errors:   xfrm.Errors{ReplayWindow: 13, Replay: 14, Integrity: 15},
	}
	if got := decodeState(t, message(w)); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDecodeStateAttributes(t *testing.T) {
	tests := []struct {
		name string
		attr []byte
		want func(*xfrm.State)
	}{
		{"auth", attribute(1, algName("hmac(sha1)"), uint32(160), secret), func(x *xfrm.State) { x.Algs.Auth = "hmac(sha1)" }},
		{"auth trunc", attribute(20, algName("hmac(sha256)"), uint32(256), uint32(128), secret), func(x *xfrm.State) {
			x.Algs.Auth, x.Algs.ICVBits = "hmac(sha256)", 128
		}},
		{"crypt", attribute(2, algName("cbc(aes)"), uint32(128), secret), func(x *xfrm.State) { x.Algs.Crypt = "cbc(aes)" }},
		{"aead", attribute(18, algName("rfc4106(gcm(aes))"), uint32(160), uint32(96), secret), func(x *xfrm.State) {
			x.Algs.AEAD, x.Algs.ICVBits = "rfc4106(gcm(aes))", 96
		}},
		{"aead with an absurd ICV", attribute(18, algName("x"), uint32(160), uint32(1<<20), secret), func(x *xfrm.State) {
			x.Algs.AEAD = "x"
		}},
		{"comp", attribute(3, algName("deflate"), uint32(0)), func(x *xfrm.State) { x.Algs.Comp = "deflate" }},
		{"encap", attribute(4, uint16(2), be16(4500), be16(61000), uint16(0), address("0.0.0.0")), func(x *xfrm.State) {
			x.Encap = xfrm.Encap{Type: 2, SPort: 4500, DPort: 61000}
		}},
		{"tcp encap", attribute(4, uint16(7), be16(4500), be16(4500), uint16(0), address("::")), func(x *xfrm.State) {
			x.Encap = xfrm.Encap{Type: 7, SPort: 4500, DPort: 4500}
		}},
		{"mark", attribute(21, uint32(42), ^uint32(0)), func(x *xfrm.State) { x.Mark = xfrm.Mark{Value: 42, Mask: 0xffffffff} }},
		{"set mark and mask", append(attribute(29, uint32(0x100000)), attribute(30, uint32(0x300000))...), func(x *xfrm.State) {
			x.SetMark = xfrm.Mark{Value: 0x100000, Mask: 0x300000}
		}},
		{"set mark of all bits", append(attribute(29, uint32(7)), attribute(30, ^uint32(0))...), func(x *xfrm.State) {
			x.SetMark = xfrm.Mark{Value: 7, Mask: 0xffffffff}
		}},
		{"set mark to zero", append(attribute(29, uint32(0)), attribute(30, uint32(0xff))...), func(x *xfrm.State) {
			x.SetMark = xfrm.Mark{Mask: 0xff}
		}},
		{"set mark of an old kernel", attribute(29, uint32(7)), func(x *xfrm.State) { x.SetMark = xfrm.Mark{Value: 7, Mask: 0xffffffff} }},
		{"if_id", attribute(31, uint32(0xdeadbeef)), func(x *xfrm.State) { x.IfID = 0xdeadbeef }},
		{"offload", attribute(28, int32(3), uint8(2|4), [3]byte{}), func(x *xfrm.State) { x.Offload = xfrm.Offload{Ifindex: 3, Flags: 6} }},
		{"direction in", attribute(33, uint8(1)), func(x *xfrm.State) { x.Dir = xfrm.Inbound }},
		{"direction out", attribute(33, uint8(2)), func(x *xfrm.State) { x.Dir = xfrm.Outbound }},
		{"cpu 0", attribute(35, uint32(0)), func(x *xfrm.State) { x.CPU = 1 }},
		{"cpu 63", attribute(35, uint32(63)), func(x *xfrm.State) { x.CPU = 64 }},
		{"any cpu", attribute(35, ^uint32(0)), func(x *xfrm.State) {}},
		{"extra flags", attribute(24, uint32(3)), func(x *xfrm.State) { x.ExtraFlags = 3 }},
		{"tfcpad", attribute(22, uint32(1400)), func(x *xfrm.State) { x.TFCPad = 1400 }},
		{"replay", attribute(10, [3]uint32{1, 2, 3}), func(x *xfrm.State) {}},
		{"replay esn", attribute(23, [6]uint32{32, 1, 2, 3, 4, 1024}, [32]uint32{}), func(x *xfrm.State) { x.ReplayWindow = 1024 }},
		{"nested flag", attribute(0x8000|31, uint32(5)), func(x *xfrm.State) { x.IfID = 5 }},
		{"longer than known", attribute(31, uint32(5), "a later kernel's"), func(x *xfrm.State) { x.IfID = 5 }},
		{"without padding at the end", attribute(33, uint8(1))[:5], func(x *xfrm.State) { x.Dir = xfrm.Inbound }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := sample.State()
			tt.want(&want)
			if got := decodeState(t, message(espState(), tt.attr)); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestDecodeStateTraps(t *testing.T) {
	tests := []struct {
		name string
		set  func(*wireState)
		want func(*xfrm.State)
	}{
		{"larval", func(w *wireState) {
			// The state that ALLOCSPI leaves: a selector with addresses and no family.
			w.Sel = selectorOf("192.0.2.1/32", "198.51.100.2/32")
			w.Sel.Family = 0
		}, func(x *xfrm.State) { x.Selector = xfrm.Selector{} }},
		{"acquire", func(w *wireState) { w.ID.SPI = be32(0) }, func(x *xfrm.State) { x.SPI = 0 }},
		{"pseudo state of ipcomp", func(w *wireState) {
			w.ID.Proto = 4
			w.ID.SPI = [4]byte{192, 0, 2, 1}
		}, func(x *xfrm.State) { x.Proto, x.SPI = xfrm.IPIP, 0xc0000201 }},
		{"iptfs", func(w *wireState) { w.Mode = 5 }, func(x *xfrm.State) { x.Mode = xfrm.IPTFSMode }},
		{"no limits", func(w *wireState) { w.Lft = wireLifetime{HardAdd: infinity} }, func(x *xfrm.State) {}},
		{"ipv6 that ends in zeros", func(w *wireState) {
			w.Family = 10
			w.Saddr, w.ID.Daddr = address("2001:db8::"), address("fd00::")
		}, func(x *xfrm.State) {
			x.Family = xfrm.IPv6
			x.Src, x.Dst = netip.MustParseAddr("2001:db8::"), netip.MustParseAddr("fd00::")
		}},
		{"inner family differs", func(w *wireState) { w.Sel = selectorOf("::/0", "2001:db8::/32") }, func(x *xfrm.State) {
			x.Selector = xfrm.Selector{Family: xfrm.IPv6, Src: netip.MustParsePrefix("::/0"), Dst: netip.MustParsePrefix("2001:db8::/32")}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, want := espState(), sample.State()
			tt.set(&w)
			tt.want(&want)
			if got := decodeState(t, message(w)); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestDecodeStateSkips(t *testing.T) {
	tests := []struct {
		name string
		body []byte
		want string
	}{
		{"empty", nil, "shorter than its struct"},
		{"short", message(espState())[:200], "shorter than its struct"},
		{"family", message(sample.With(espState(), func(w *wireState) { w.Family = 5 })), "address family 5"},
		{"mode of a newer kernel", message(sample.With(espState(), func(w *wireState) { w.Mode = 6 })), "mode 6 is not known"},
		{"selector's family", message(sample.With(espState(), func(w *wireState) { w.Sel.Family = 5 })), "selector: address family 5"},
		{"prefix length", message(sample.With(espState(), func(w *wireState) { w.Sel.PrefixD = 33 })), "length 33 is too long"},
		{"cut attribute header", append(message(espState()), 5, 0), "attribute is cut short"},
		{"attribute length below its header", append(message(espState()), 3, 0, 1, 0), "attribute is cut short"},
		{"attribute beyond the message", append(message(espState()), raw([2]uint16{12, 31})...), "attribute is cut short"},
		{"short attribute", message(espState(), attribute(31, uint16(1))), "attribute 31: attribute is cut short"},
		{"algorithm without end", message(espState(), attribute(2, strings.Repeat("x", 64), uint32(0))), "algorithm's name"},
		{"algorithm with an escape", message(espState(), attribute(2, algName("\x1b[2J"), uint32(0))), "algorithm's name"},
		{"direction", message(espState(), attribute(33, uint8(3))), "direction 3"},
		{"offload", message(espState(), attribute(28, int32(-1), uint32(0))), "index -1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d wire.Decoder
			var s xfrm.Snapshot
			if err := d.Decode(&s, newSA, tt.body); err != nil {
				t.Fatal(err)
			}
			if len(s.States) != 0 || len(s.Skipped) != 1 || !strings.Contains(s.Skipped[0].Reason, tt.want) {
				t.Errorf("got states %v, skipped %q; want one skipped with %q", s.States, s.Skipped, tt.want)
			}
		})
	}
}

// TestDecodeNewerAttributes: a possible meaning of a newer kernel's attribute is said
// once, and its objects are there.
func TestDecodeNewerAttributes(t *testing.T) {
	var d wire.Decoder
	s := xfrm.Snapshot{Schema: xfrm.SchemaVersion}
	for range 3 {
		for _, body := range [][]byte{
			message(espState(), attribute(41, uint32(0))), // IPTFS, the newest that is known
			message(espState(), attribute(42, uint32(1)), attribute(31, uint32(5))),
		} {
			if err := d.Decode(&s, newSA, body); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Decode(&s, newPolicy, message(inPolicy(), attribute(42, uint32(1)))); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.States) != 6 || s.States[1].IfID != 5 || len(s.Policies) != 3 {
		t.Errorf("got states %+v and %d policies", s.States, len(s.Policies))
	}
	var noted []string
	for _, o := range s.Skipped {
		noted = append(noted, o.Object)
	}
	if want := []string{"attribute 42 of states", "attribute 42 of policies"}; !slices.Equal(noted, want) {
		t.Errorf("got %q, want %q", noted, want)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}

func TestDecodeOtherMessages(t *testing.T) {
	var d wire.Decoder
	var s xfrm.Snapshot
	if err := d.Decode(&s, 0x11, message(espState())); !errors.Is(err, wire.ErrNotObject) {
		t.Errorf("DELSA: got %v, want ErrNotObject", err)
	}
}

func TestSkipIsBounded(t *testing.T) {
	var d wire.Decoder
	var s xfrm.Snapshot
	for range 5000 {
		if err := d.Decode(&s, newSA, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.Skipped) != 1001 {
		t.Errorf("got %d entries, want 1001", len(s.Skipped))
	}
}

func decodeState(t *testing.T, body []byte) xfrm.State {
	t.Helper()
	var d wire.Decoder
	s := xfrm.Snapshot{Schema: xfrm.SchemaVersion}
	if err := d.Decode(&s, newSA, body); err != nil {
		t.Fatal(err)
	}
	if len(s.States) != 1 || len(s.Skipped) != 0 {
		t.Fatalf("got %d states, skipped %q", len(s.States), s.Skipped)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	return s.States[0]
}
