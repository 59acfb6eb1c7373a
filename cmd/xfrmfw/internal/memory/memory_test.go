package memory

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

func some() []firewall.Guard {
	return []firewall.Guard{
		{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.1.0.128/25"), Pierce: true, Dirs: 6,
			Source: firewall.MemoryGuard, Tunnel: "t0123456789", Since: 10, Expires: 20},
		{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.1.0.0/24"), Dirs: 7, Proto: xfrm.TCP,
			LocalPort: xfrm.PortMatch{Port: 22, Mask: 0xffff}, Source: firewall.MemoryGuard, Peer: netip.MustParseAddr("192.0.2.1"),
			Tunnel: "t0123456789", Since: 10, Expires: 20},
		{Local: netip.MustParsePrefix("fd00:2::/64"), Remote: netip.MustParsePrefix("fd00:1::/64"), Dirs: 7,
			Source: firewall.MemoryGuard, Tunnel: "tabcdef0123-0002", Since: 10, Expires: 20},
	}
}

func TestSaveAndLoad(t *testing.T) {
	s := In(filepath.Join(t.TempDir(), "state"))
	if got, warning, err := s.Load(); got != nil || warning != "" || err != nil {
		t.Fatalf("without a file: %v, %q, %v", got, warning, err)
	}
	for range 2 {
		if err := s.Save(some()); err != nil {
			t.Fatal(err)
		}
	}
	got, warning, err := s.Load()
	if warning != "" || err != nil {
		t.Fatalf("warning %q, error %v", warning, err)
	}
	if diff := cmp.Diff(some(), got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if info, err := os.Stat(s.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.path), ".memory-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDamagedFileIsSetAside(t *testing.T) {
	for name, text := range map[string]string{
		"empty":             "",
		"cut short":         `{"schema":1,"guards":[{"local":"10.2.0.0/24"`,
		"another schema":    `{"schema":2,"guards":[]}`,
		"unknown key":       `{"schema":1,"guards":[],"more":1}`,
		"everything":        `{"schema":1,"guards":[{"local":"10.2.0.0/24","remote":"0.0.0.0/0","tunnel":"t0123456789","since":1,"expires":2}]}`,
		"unmasked":          `{"schema":1,"guards":[{"local":"10.2.0.0/24","remote":"10.1.0.1/24","tunnel":"t0123456789","since":1,"expires":2}]}`,
		"two families":      `{"schema":1,"guards":[{"local":"10.2.0.0/24","remote":"fd00::/64","tunnel":"t0123456789","since":1,"expires":2}]}`,
		"tunnel that bites": `{"schema":1,"guards":[{"local":"10.2.0.0/24","remote":"10.1.0.0/24","tunnel":"x -j ACCEPT","since":1,"expires":2}]}`,
		"two documents":     `{"schema":1,"guards":[]}{"schema":1,"guards":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := In(t.TempDir())
			if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, warning, err := s.Load()
			if got != nil || err != nil || !strings.Contains(warning, "set aside") {
				t.Fatalf("loaded %v, warning %q, error %v", got, warning, err)
			}
			aside, _ := filepath.Glob(s.path + ".damaged-*")
			if len(aside) != 1 {
				t.Fatalf("set aside: %v", aside)
			}
			if kept, _ := os.ReadFile(aside[0]); string(kept) != text {
				t.Error("what was set aside is not what was there")
			}
			if got, warning, err := s.Load(); got != nil || warning != "" || err != nil {
				t.Errorf("afterwards: %v, %q, %v", got, warning, err)
			}
		})
	}
}

func TestSaveThatFailsKeepsTheOld(t *testing.T) {
	dir := t.TempDir()
	s := In(dir)
	if err := s.Save(some()); err != nil {
		t.Fatal(err)
	}
	if err := In("/proc/xfrmfw-no-such").Save(some()); err == nil {
		t.Error("saved where nothing can be")
	}
	if got, _, err := s.Load(); len(got) != 3 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestChanged(t *testing.T) {
	later := func(by int64) []firewall.Guard {
		g := some()
		for i := range g {
			g[i].Expires += by
		}
		return g
	}
	for name, tc := range map[string]struct {
		now  []firewall.Guard
		want bool
	}{
		"the same": {some(), false}, "a little later": {later(60), false}, "much later": {later(2 * fresher), true},
		"one less": {some()[1:], true}, "sooner": {later(-5), true},
	} {
		if got := Changed(some(), tc.now); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Whatever a peer negotiates, what is written can be read again.
func TestNothingRememberedDamagesTheFile(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	port := func() xfrm.PortMatch {
		return xfrm.PortMatch{Port: uint16(r.Uint32()), Mask: []uint16{0, 0xffff, 0xfff0, 0xff}[r.IntN(4)]}
	}
	remembered := 0
	for range 50 { // each writes to the disk, and waits for it
		snapshot := xfrm.Snapshot{}
		for n := range 40 {
			sel := xfrm.Selector{Family: xfrm.IPv4, Proto: xfrm.Proto(r.IntN(256) * r.IntN(2)), SPort: port(), DPort: port(),
				Src: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(r.IntN(256)), 0}), 24-r.IntN(9)).Masked(),
				Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(r.IntN(256)), 0}), 24).Masked()}
			if r.IntN(4) == 0 {
				sel.Family, sel.Src, sel.Dst = xfrm.IPv6, netip.MustParsePrefix("::ffff:10.1.0.0/112"), netip.MustParsePrefix("fd00:2::/64")
			}
			p := xfrm.Policy{Selector: sel, Dir: xfrm.Dir(r.IntN(3)), Priority: r.Uint32N(3)}
			if r.IntN(4) > 0 {
				p.Templates = []xfrm.Template{{Family: xfrm.IPv4, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
					Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: uint32(n)}}
			}
			snapshot.Policies = append(snapshot.Policies, p)
		}
		set := xfrm.Tunnels(snapshot)
		fresh, _ := firewall.Remember(nil, firewall.LiveGuards(set, snapshot.Host), set, snapshot.Host, firewall.GuardConfig{}, 1000)
		s := In(t.TempDir())
		if err := s.Save(fresh); err != nil {
			t.Fatal(err)
		}
		got, warning, err := s.Load()
		if warning != "" || err != nil {
			t.Fatalf("%+v: warning %q, error %v", fresh, warning, err)
		}
		if diff := cmp.Diff(fresh, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
		remembered += len(fresh)
	}
	if remembered < 500 {
		t.Errorf("only %d guards were ever remembered: the test shows little", remembered)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema":1,"guards":[{"local":"10.2.0.0/24","remote":"10.1.0.0/24","tunnel":"t0123456789","since":1,"expires":2}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		guards, err := Parse(text)
		if err != nil {
			return
		}
		marks := firewall.DefaultMarks()
		for _, rs := range firewall.Compile(firewall.Input{Guards: guards, Config: firewall.Config{Marks: marks}}).Rulesets {
			if err := firewall.Validate(rs); err != nil {
				t.Errorf("the memory makes rules that are not valid: %v", err)
			}
		}
	})
}

// TestLoadSeesWhatOthersWrote: what was understood before is only used for the very
// same text.
func TestLoadSeesWhatOthersWrote(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := In(dir), In(dir)
	want := func(what string, want []firewall.Guard) {
		t.Helper()
		for name, s := range map[string]Store{"ours": ours, "theirs": theirs, "new": In(dir)} {
			got, warning, err := s.Load()
			if warning != "" || err != nil {
				t.Fatalf("%s, %s: warning %q, error %v", what, name, warning, err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
				t.Errorf("%s, %s (-want +got)\n%s", what, name, diff)
			}
		}
	}
	if err := ours.Save(some()); err != nil {
		t.Fatal(err)
	}
	want("written by us", some())
	if err := theirs.Save(some()[:1]); err != nil {
		t.Fatal(err)
	}
	want("written by others", some()[:1])
	if err := ours.Save(some()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ours.path, []byte(`{"schema":1,"guards":[{"local":"10.2.0.0/24"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, warning, err := ours.Load(); got != nil || err != nil || !strings.Contains(warning, "set aside") {
		t.Errorf("damaged: loaded %v, warning %q, error %v", got, warning, err)
	}
}
