package follow

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// FuzzIndex feeds an index any notifications: it never panics, and one that was
// taken changes nothing when it comes again, but where it asks for a look.
func FuzzIndex(f *testing.F) {
	for typ := range uint16(0x30) {
		f.Add(typ, make([]byte, 24), make([]byte, 248))
	}
	f.Fuzz(func(t *testing.T, typ uint16, a, b []byte) {
		var d wire.Decoder
		x := NewIndex(xfrm.Snapshot{})
		for _, body := range [][]byte{a, b} {
			n := d.NoteOf(typ, body)
			x.Take(n)
			added := wire.Classify(typ, body) == wire.StateAdded
			if first, again := x.Take(n), x.Take(n); added && first && !again {
				t.Fatalf("asked for a look the second time, and not the third: %x", body)
			}
		}
	})
}
