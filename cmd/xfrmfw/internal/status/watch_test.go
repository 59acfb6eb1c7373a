package status

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

// busy is a report after so many seconds of traffic.
func busy(tunnels, seconds int) Report {
	r := Report{InSync: InSync, total: tunnels, at: time.Unix(now+int64(seconds), 0)}
	for i := range tunnels {
		n := uint64(i * seconds)
		r.Tunnels = append(r.Tunnels, Tunnel{
			ID: fmt.Sprintf("t%010x", i), Name: fmt.Sprintf("office-%d", i), State: Up, Remote: "192.0.2.1", Evidence: "tag+policy",
			Selectors: []Selector{{"10.2.0.0/24", fmt.Sprintf("10.%d.0.0/16", i), "any", "any", "any"}},
			PacketsBy: PacketsBy{Verified: 10 * n},
			SAs: []SA{
				{SPI: "0x1", Dir: "in", Bytes: 1024 * n}, {SPI: "0x2", Dir: "out", Bytes: 2048 * n},
			},
		})
	}
	r.Drops.Spoof.Packets = uint64(3 * seconds)
	return r
}

func TestBetween(t *testing.T) {
	before, after := busy(3, 10), busy(3, 12)
	// Rekeyed meanwhile: the new state begins at 0.
	after.Tunnels[1].SAs[0] = SA{SPI: "0x9", Dir: "in", Bytes: 4096}
	// A rewritten chain begins at 0 too; nothing is known then.
	after.Tunnels[2].PacketsBy.Verified = 1
	// One that was not there before.
	after.Tunnels = append(after.Tunnels, Tunnel{ID: "new", PacketsBy: PacketsBy{Verified: 7}, SAs: []SA{{SPI: "0x7", Dir: "in", Bytes: 99}}})
	r := Between(before, after, 2*time.Second)
	for i, want := range []TunnelRates{{}, {10, 2048, 2048}, {0, 2048, 4096}, {}} {
		if r.Tunnels[i] != want {
			t.Errorf("tunnel %d: %+v, want %+v", i, r.Tunnels[i], want)
		}
	}
	if r.Drops["spoof"] != 3 || r.Drops["leak"] != 0 {
		t.Errorf("drops %v", r.Drops)
	}
	if r := Between(before, after, 0); len(r.Tunnels) != 4 || r.Tunnels[1] != (TunnelRates{}) {
		t.Errorf("in no time: %+v", r)
	}
}

var sequence = regexp.MustCompile("\x1b\\[[0-9;]*m")

// The layout keeps to every width and height, and to plain text where colours are not wanted.
func TestWatchLines(t *testing.T) {
	r := busy(30, 12)
	r.Tunnels[3].Name = "a name of more than twenty columns, \x1b[31mred"
	r.Tunnels[4].State = Down
	r.InSync, r.Differences, r.Warnings = OutOfSync, []string{"x"}, []string{"a warning\x1b[2J that goes on and on"}
	rates := Between(busy(30, 10), r, 2*time.Second)
	for _, width := range []int{20, 38, 40, 79, 80, 100, 132, 200, 400} {
		for _, height := range []int{0, 4, 12, 24, 60} {
			for _, color := range []bool{false, true} {
				lines := r.WatchLines(rates, WatchOptions{Width: width, Height: height, Color: color, Interval: time.Second, Failed: "no luck"})
				if height > 0 && len(lines) > height {
					t.Errorf("%dx%d: %d lines", width, height, len(lines))
				}
				for _, line := range lines {
					shown := line
					if color {
						shown = sequence.ReplaceAllString(line, "")
					}
					if text.Columns(shown) > width || strings.Contains(shown, "\x1b") {
						t.Errorf("%dx%d, colour %v: %q", width, height, color, line)
					}
				}
			}
		}
	}
	text := func(width, height int) string {
		return strings.Join(r.WatchLines(rates, WatchOptions{Width: width, Height: height, Interval: time.Second}), "\n")
	}
	// The busiest come first where there is no room for all.
	if got := text(80, 24); !strings.Contains(got, "office-29") || strings.Contains(got, "office-1 ") || !strings.Contains(got, "more, with less traffic") {
		t.Errorf("80x24:\n%s", got)
	}
	for width, want := range map[int][]string{
		40:  {"PACKETS      /s", "290.0"},
		80:  {"IN/s", "OUT/s", "29.0 KiB"},
		200: {"IN        /s", "PEER", "EVIDENCE", "10.2.0.0/24 <-> 10.29.0.0/16", "58.0 KiB"},
	} {
		for _, w := range want {
			if got := text(width, 0); !strings.Contains(got, w) {
				t.Errorf("%d columns lack %q:\n%s", width, w, got)
			}
		}
	}
	if got := text(100, 0); !strings.Contains(got, "dropped as spoof") || !strings.Contains(got, "3.0/s") || !strings.Contains(got, "OUT OF SYNC") {
		t.Errorf("drops and sync:\n%s", got)
	}
}
