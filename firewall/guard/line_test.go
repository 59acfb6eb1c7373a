package guard

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRememberLines(t *testing.T) {
	line := func(network, device string, expires int64) Line {
		return Line{netip.MustParsePrefix(network), device, expires}
	}
	memory := []Line{line("10.3.0.0/24", "leased0", 150), line("10.1.0.0/24", "leased0", 150), line("10.2.0.0/24", "leased0", 90), line("10.1.0.0/24", "leased0", 400)}
	standing := []Line{line("10.3.0.0/24", "leased0", 0), line("10.3.0.0/24", "leased1", 0)}
	want := []Line{line("10.1.0.0/24", "leased0", 400), line("10.3.0.0/24", "leased0", 200), line("10.3.0.0/24", "leased1", 200)}
	same := func(what string, want, got []Line) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
	same("lines", want, RememberLines(memory, standing, Config{Remember: 100}, 100))
	same("no clock lowers an expiry", []Line{line("10.1.0.0/24", "leased0", 400)}, RememberLines(memory[3:], []Line{line("10.1.0.0/24", "leased0", 0)}, Config{Remember: 100}, 50))
	same("remember: off", nil, RememberLines(memory, standing, Config{Forget: true}, 100))

	var many []Line
	for i := range maxLines + 10 {
		many = append(many, line(fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), "leased0", 0))
	}
	full := RememberLines(nil, many[10:], Config{}, 100)
	if got := RememberLines(full, many[:10], Config{}, 100); len(got) != maxLines || cmp.Diff(full, got, cmpopts.EquateComparable(netip.Prefix{})) != "" {
		t.Errorf("a full memory of %d lines took others in their place", len(got))
	}
}
