package wire_test

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
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
	f.Add(uint16(updSA), message(sample.With(espState(), func(w *wireState) {
		w.Family, w.Sel = 10, selectorOf("2001:db8::/32", "::/0")
	})))
	f.Add(uint16(newPolicy), message(inPolicy(), attribute(5, tunnelTemplate(), tunnelTemplate()), attribute(16, [6]byte{1})))
	f.Add(uint16(updPolicy), message(sample.With(inPolicy(), func(w *wirePolicy) { w.Sel = selectorOf("2001:db8::/32", "::/0") }), attribute(31, uint32(1))))
	f.Add(uint16(0x18), append(message(espState()), 1, 0, 0, 0))
	var d wire.Decoder
	f.Fuzz(func(t *testing.T, typ uint16, body []byte) {
		wire.Classify(typ, body)
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
		if err := sample.Rewritten(s); err != nil {
			t.Fatal(err)
		}
	})
}
