package xfrm_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// FuzzDecode feeds the decoder and Classify with hostile messages. Whatever
// decodes must be valid, and survive the way through JSON.
func FuzzDecode(f *testing.F) {
	full := [][]byte{
		attribute(1, algName("hmac(sha1)"), uint32(160), secret),
		attribute(20, algName("hmac(sha256)"), uint32(256), uint32(128), secret),
		attribute(2, algName("cbc(aes)"), uint32(128), secret),
		attribute(18, algName("rfc4106(gcm(aes))"), uint32(160), uint32(96), secret),
		attribute(3, algName("deflate"), uint32(0)),
		attribute(4, uint16(2), be16(4500), be16(61000), uint16(0), address("0.0.0.0")),
		attribute(21, uint32(42), ^uint32(0)),
		attribute(29, uint32(0x100000)), attribute(30, uint32(0x300000)),
		attribute(31, uint32(7)), attribute(28, int32(3), uint8(6), [3]byte{}),
		attribute(33, uint8(1)), attribute(35, uint32(1)), attribute(24, uint32(1)),
		attribute(23, [6]uint32{4, 1, 2, 3, 4, 128}, [4]uint32{}),
	}
	f.Add(uint16(newSA), message(espState(), full...))
	f.Add(uint16(updSA), message(with(espState(), func(w *wireState) {
		w.Family, w.Sel = 10, selectorOf("2001:db8::/32", "::/0")
	})))
	f.Add(uint16(newPolicy), message(inPolicy(), attribute(5, tunnelTemplate(), tunnelTemplate()), attribute(16, [6]byte{1})))
	f.Add(uint16(updPolicy), message(with(inPolicy(), func(w *wirePolicy) { w.Sel = selectorOf("2001:db8::/32", "::/0") }), attribute(31, uint32(1))))
	f.Add(uint16(0x18), append(message(espState()), 1, 0, 0, 0))
	var d xfrm.Decoder
	f.Fuzz(func(t *testing.T, typ uint16, body []byte) {
		xfrm.Classify(typ, body)
		s := xfrm.Snapshot{Schema: xfrm.SchemaVersion}
		if err := d.Decode(&s, typ, body); err != nil {
			if len(s.States)+len(s.Policies)+len(s.Skipped) != 0 {
				t.Fatalf("error %v, and yet %+v", err, s)
			}
			return
		}
		if len(s.States)+len(s.Policies)+len(s.Skipped) != 1 {
			t.Fatalf("one message gave %+v", s)
		}
		s.Sort()
		if err := s.Validate(); err != nil {
			t.Fatalf("decoded: %v in %+v", err, s)
		}
		checkRewrite(t, s)
	})
}

// FuzzReadJSON reads hostile files. An accepted file must be valid and be written in a
// form that reads and writes alike.
func FuzzReadJSON(f *testing.F) {
	var b bytes.Buffer
	if err := fullSnapshot().WriteJSON(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.String())
	f.Add(`{"schema": 1, "states": null, "policies": [{}]}`)
	f.Add(`{"schema": 1, "host": {"links": [{"index": 1, "name": "lo"}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := xfrm.ReadJSON(strings.NewReader(text))
		if err != nil {
			return
		}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		checkRewrite(t, s)
		s.Sort()
		checkRewrite(t, s)
	})
}

func checkRewrite(t *testing.T, s xfrm.Snapshot) {
	t.Helper()
	var first, second bytes.Buffer
	if err := s.WriteJSON(&first); err != nil {
		t.Fatal(err)
	}
	again, err := xfrm.ReadJSON(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatalf("%v in %s", err, first.Bytes())
	}
	if err := again.WriteJSON(&second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatalf("not the same again:\n%s\nand\n%s", first.Bytes(), second.Bytes())
	}
}

// FuzzIndex feeds an index any notifications: it never panics, and one that was
// taken changes nothing when it comes again, but where it asks for a look.
func FuzzIndex(f *testing.F) {
	for typ := range uint16(0x30) {
		f.Add(typ, make([]byte, 24), make([]byte, 248))
	}
	f.Fuzz(func(t *testing.T, typ uint16, a, b []byte) {
		var d xfrm.Decoder
		x := xfrm.NewIndex(xfrm.Snapshot{})
		for _, body := range [][]byte{a, b} {
			n := d.NoteOf(typ, body)
			x.Take(n)
			added := xfrm.Classify(typ, body) == xfrm.StateAdded
			if first, again := x.Take(n), x.Take(n); added && first && !again {
				t.Fatalf("asked for a look the second time, and not the third: %x", body)
			}
		}
	})
}
