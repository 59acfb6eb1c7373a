package memory

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/guard"
)

// lineRecord is one line in the file.
type lineRecord struct {
	Network netip.Prefix `json:"network"`
	Device  string       `json:"device"`
	Expires int64        `json:"expires"`
}

// parseLines reads the list of lines. The error is of the first that is none, which costs
// itself only.
func (t *text) parseLines(d *json.Decoder) error {
	var raws []json.RawMessage
	damage := skip(d, &raws)
	for i, raw := range raws {
		var r lineRecord
		err := json.Unmarshal(raw, &r)
		switch {
		case err == nil && (!r.Network.IsValid() || r.Network != r.Network.Masked() || r.Network.Bits() == 0 || r.Device == "" || len(r.Device) > maxDevice || r.Expires < 0):
			err = fmt.Errorf("no network or no device")
			fallthrough
		case err != nil:
			damage = cmp.Or(damage, fmt.Errorf("line %d: %w", i+1, err))
		case len(t.lines) < maxGuards:
			t.lines = append(t.lines, guard.Line(r))
		}
	}
	return damage
}

// Standing returns the lines that have not expired.
func (m Memory) Standing() []guard.Line {
	return slices.DeleteFunc(slices.Clone(m.Lines), func(l guard.Line) bool { return l.Expires <= m.Now })
}

// maxDevice is the length of an interface's name (IFNAMSIZ).
const maxDevice = 15

// linesChanged reports whether lines should be written, as they were read.
func linesChanged(held, now []guard.Line) bool {
	return !slices.EqualFunc(held, now, func(a, b guard.Line) bool {
		return a.Compare(b) == 0 && a.Expires <= b.Expires && b.Expires-a.Expires <= fresher
	})
}
