package memory

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xfrmfw/xfrmfw/firewall/guard"
)

// Lines outlive a boot and a full disk, expire, and a bad one costs itself alone.
func TestLines(t *testing.T) {
	h := newHost(t)
	network := netip.MustParsePrefix("10.1.0.0/24")
	lines := []guard.Line{{Network: network, Device: "leased0", Expires: 200}, {Network: network, Device: "leased1", Expires: 16}}
	same := func(when string, want, got []guard.Line) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("%s (-want +got)\n%s", when, diff)
		}
	}
	if err := h.store().Save(some(), lines, 15); err != nil {
		t.Fatal(err)
	}
	h.reboot(t, 0)
	m := h.store().Load()
	same("after a boot", lines, m.Lines)
	same("those that stand", lines[:1], m.Standing())
	m.stale = false
	for name, tc := range map[string]struct {
		now  []guard.Line
		want bool
	}{"the same": {lines, false}, "another": {lines[:1], true}, "sooner": {[]guard.Line{{Network: network, Device: "leased0", Expires: 100}, lines[1]}, true}} {
		if m.Changed(some(), tc.now) != tc.want {
			t.Errorf("%s: changed: %v", name, !tc.want)
		}
	}

	text, err := os.ReadFile(h.second())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{`"10.1.0.1/24"`, `"0.0.0.0/0"`, `7`} {
		if err := os.WriteFile(h.second(), []byte(strings.Replace(string(text), `"10.1.0.0/24"`, bad, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		m := (&host{h.state, t.TempDir(), h.wall, h.boot, h.up}).store().Load()
		same("one of network "+bad, lines[1:], m.Lines)
		if len(m.Guards) != len(some()) || m.Warning == "" {
			t.Errorf("%s: %d guards, warning %q", bad, len(m.Guards), m.Warning)
		}
	}
}
