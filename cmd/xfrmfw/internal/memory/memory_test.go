package memory

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

func some() []guard.Guard {
	return []guard.Guard{
		{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.1.0.128/25"), Exception: true, Dirs: 6,
			Source: guard.FromMemory, Tunnel: "t0123456789", Since: 10, Expires: 20},
		{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.1.0.0/24"), Dirs: 7, Proto: xfrm.TCP,
			LocalPort: xfrm.PortMatch{Port: 22, Mask: 0xffff}, Source: guard.FromMemory, Peer: netip.MustParseAddr("192.0.2.1"),
			Tunnel: "t0123456789", Since: 10, Expires: 20},
		{Local: netip.MustParsePrefix("fd00:2::/64"), Remote: netip.MustParsePrefix("fd00:1::/64"), Dirs: 7,
			Source: guard.FromMemory, Tunnel: "tabcdef0123-0002", Connection: "office", Since: 10, Expires: 20},
	}
}

// store is one with a clock and a boot that tests set.
type host struct {
	state, run string
	wall       time.Time
	boot       string
	up         int64
}

func newHost(t *testing.T) *host {
	dir := t.TempDir()
	return &host{filepath.Join(dir, "state"), filepath.Join(dir, "run"), time.Unix(1_800_000_000, 0), "first boot", 100}
}

// store is as a process opens it that has just begun.
func (h *host) store() Store {
	s, err := In(rundir.Dirs{Run: h.run, State: h.state})
	if err != nil {
		panic(err)
	}
	s.wall = func() time.Time { return h.wall }
	s.uptime = func() (string, int64) { return h.boot, h.up }
	return s
}

func (h *host) file() string { return filepath.Join(h.state, "memory.json") }

func (h *host) second() string { return filepath.Join(h.state, "memory-clock.json") }

// reboot loses the run directory.
func (h *host) reboot(t *testing.T, off time.Duration) {
	t.Helper()
	h.wall, h.boot, h.up = h.wall.Add(off), h.boot+"+", 30
	if err := os.RemoveAll(h.run); err != nil {
		t.Fatal(err)
	}
}

// pass has time pass.
func (h *host) pass(d time.Duration) {
	h.wall, h.up = h.wall.Add(d), h.up+int64(d/time.Second)
}

func (h *host) write(t *testing.T, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(h.state, 0o700), os.WriteFile(h.file(), []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, what string, want, got []guard.Guard) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

func TestSaveAndLoad(t *testing.T) {
	h := newHost(t)
	s := h.store()
	if m := s.Load(); len(m.Guards) > 0 || m.Warning != "" || m.Now != h.wall.Unix() {
		t.Fatalf("without a file: %+v", m)
	}
	for range 2 {
		if err := s.Save(some(), nil, 15); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range map[string]Store{"the same": s, "another": h.store()} {
		m := s.Load()
		equal(t, name, some(), m.Guards)
		if m.Warning != "" || m.Now != 15 || m.Changed(some(), nil) {
			t.Errorf("%s: warning %q, now %d, changed %v", name, m.Warning, m.Now, m.Changed(some(), nil))
		}
	}
	if info, err := os.Stat(h.file()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(h.state); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

// A bad record costs itself only, and a mere look neither moves nor changes the file.
func TestABadRecordCostsItselfOnly(t *testing.T) {
	const good = `{"local":"10.2.0.0/24","remote":"10.1.0.0/24","tunnel":"t0123456789","priority":0,"since":1,"expires":2}`
	for name, tc := range map[string]struct {
		text string
		want int
	}{
		"empty":             {"", 0},
		"nonsense":          {"nonsense", 0},
		"cut short":         {`{"schema":1,"guards":[` + good + `,{"local":"10.2.0.0/24"`, 1},
		"another schema":    {`{"schema":2,"guards":[` + good + `]}`, 1},
		"everything":        {`{"schema":1,"guards":[` + good + `,{"local":"10.2.0.0/24","remote":"0.0.0.0/0","tunnel":"t0123456789","since":1,"expires":2}]}`, 1},
		"unmasked":          {`{"schema":1,"guards":[{"local":"10.2.0.0/24","remote":"10.1.0.1/24","tunnel":"t0123456789","since":1,"expires":2},` + good + `]}`, 1},
		"two families":      {`{"schema":1,"guards":[{"local":"10.2.0.0/24","remote":"fd00::/64","tunnel":"t0123456789","since":1,"expires":2},` + good + `]}`, 1},
		"tunnel that bites": {`{"schema":1,"guards":[{"local":"10.2.0.0/24","remote":"10.1.0.0/24","tunnel":"x -j ACCEPT","since":1,"expires":2},` + good + `]}`, 1},
		"another type":      {`{"schema":1,"guards":[7,{"local":[]},` + good + `]}`, 1},
		"clock of a fool":   {`{"schema":1,"clock":{"observed":-5},"guards":[` + good + `]}`, 1},
		"name that bites":   {`{"schema":1,"connections":{"t0123456789":"a\nb"},"guards":[` + good + `]}`, 1},
		"name of no tunnel": {`{"schema":1,"connections":{"x":"office"},"guards":[` + good + `]}`, 1},
		"names of a fool":   {`{"schema":1,"connections":[1],"guards":[` + good + `]}`, 1},
		"two documents":     {`{"schema":1,"guards":[` + good + `]}{"schema":1,"guards":[]}`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.write(t, tc.text)
			s := h.store()
			for range 2 {
				m := s.Load()
				if len(m.Guards) != tc.want || !strings.Contains(m.Warning, "is damaged") || !m.Changed(m.Guards, nil) {
					t.Fatalf("%d guards, warning %q", len(m.Guards), m.Warning)
				}
			}
			if left, _ := os.ReadDir(h.state); len(left) != 1 {
				t.Errorf("a mere look left %v", left)
			}
			if err := s.Save(some(), nil, 15); err != nil {
				t.Fatal(err)
			}
			if kept, err := os.ReadFile(h.file() + aside); err != nil || string(kept) != tc.text {
				t.Errorf("kept is %q, %v", kept, err)
			}
			m := h.store().Load()
			equal(t, "afterwards", some(), m.Guards)
			if m.Warning != "" {
				t.Errorf("afterwards: %q", m.Warning)
			}
		})
	}
}

// A file with a record with times from a wrong clock, and one of a later version, are
// read.
func TestOtherVersionsAreRead(t *testing.T) {
	for name, text := range map[string]string{
		"since after expires": `{"schema":1,"guards":[{"local":"10.2.0.0/24","remote":"10.1.0.0/24","tunnel":"t0123456789","priority":0,"since":30,"expires":20}]}`,
		"a later version":     `{"schema":1,"more":{"a":[1]},"guards":[{"local":"10.2.0.0/24","remote":"10.1.0.0/24","tunnel":"t0123456789","more":1,"since":1,"expires":20}]}`,
	} {
		h := newHost(t)
		h.write(t, text)
		if m := h.store().Load(); len(m.Guards) != 1 || m.Warning != "" || m.Now >= 20 {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// TestOtherVersionsRead: memory.json has the form of the versions before the memory had a clock, which refuse the whole file
// for any other key or for one guard that ends before it began, and then have no guard.
func TestOtherVersionsRead(t *testing.T) {
	h := newHost(t)
	guards := append(some(), guard.Guard{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.7.0.0/24"),
		Source: guard.FromMemory, Tunnel: "t0123456780", Connection: "by a wrong clock", Since: 30, Expires: 20})
	if err := h.store().Save(guards, nil, 15); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(h.file())
	if err != nil {
		t.Fatal(err)
	}
	var older struct {
		Schema int `json:"schema"`
		Guards []struct {
			Local      string `json:"local"`
			Remote     string `json:"remote"`
			Proto      string `json:"proto,omitempty"`
			LocalPort  any    `json:"local_port,omitempty"`
			RemotePort any    `json:"remote_port,omitempty"`
			Pierce     bool   `json:"pierce,omitempty"`
			Dirs       uint8  `json:"dirs,omitempty"`
			Peer       string `json:"peer,omitempty"`
			Tunnel     string `json:"tunnel"`
			Priority   uint32 `json:"priority"`
			Routed     bool   `json:"routed"`
			Since      int64  `json:"since"`
			Expires    int64  `json:"expires"`
		} `json:"guards"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&older); err != nil || d.More() {
		t.Fatalf("%v in\n%s", err, b)
	}
	if older.Schema != 1 || len(older.Guards) != len(guards) {
		t.Errorf("schema %d, %d guards in\n%s", older.Schema, len(older.Guards), b)
	}
	for i, g := range older.Guards {
		if g.Since > g.Expires || g.Remote != guards[i].Remote.String() || g.Pierce != guards[i].Exception {
			t.Errorf("guard %d is %+v", i+1, g)
		}
	}

	// An older version has written it, and left the second file as it was.
	later := older
	later.Guards = older.Guards[1:3]
	if b, err = json.Marshal(later); err != nil {
		t.Fatal(err)
	}
	h.write(t, string(b))
	h.pass(time.Hour)
	m := h.store().Load()
	equal(t, "as an older version left it", guards[1:3], m.Guards)
	if m.Warning != "" || m.Now != 0 || !m.Changed(m.Guards, nil) { // its times are of the wall clock: no guard ends within a day
		t.Errorf("warning %q, now %d", m.Warning, m.Now)
	}
	// The host had the older version alone, and not this one before.
	if err := errors.Join(os.RemoveAll(h.run), os.Remove(h.second())); err != nil {
		t.Fatal(err)
	}
	m = h.store().Load()
	if len(m.Guards) != 2 || m.Warning != "" || !m.Changed(m.Guards, nil) {
		t.Errorf("without a second file: %+v", m)
	}
}

// TestTimesOfAnotherClock: an older version, on a host whose wall clock was behind, or a
// backup has replaced the guards: they last a day at least by the clock of the second file.
func TestTimesOfAnotherClock(t *testing.T) {
	const month = 30 * 24 * 3600
	for name, behind := range map[string]int64{"not replaced": 0, "a wall clock three years behind": 3 * 365 * 24 * 3600} {
		h := newHost(t)
		guards := some()[1:2]
		now := h.store().Load().Now
		guards[0].Since, guards[0].Expires = now, now+month
		line := guard.Line{Network: guards[0].Remote, Device: "leased0", Expires: now + month}
		if err := h.store().Save(guards, []guard.Line{line}, now); err != nil {
			t.Fatal(err)
		}
		if behind > 0 {
			guards[0].Since, guards[0].Expires = now-behind, now-behind+month
			list, _, err := newFile(guards, nil, nil).split()
			if err != nil {
				t.Fatal(err)
			}
			b, err := list.encode()
			if err != nil {
				t.Fatal(err)
			}
			h.write(t, string(b))
		}
		h.reboot(t, time.Minute)
		m := h.store().Load()
		if left := m.Guards[0].Expires - m.Now; left < longest || behind == 0 && left < month-3600 {
			t.Errorf("%s: %d s are left", name, left)
		}
		// A line opens, so that of another clock is not believed.
		if want := map[bool]int{true: 1}[behind == 0]; len(m.Lines) != want {
			t.Errorf("%s: lines %v", name, m.Lines)
		}
	}
}

// Harm to the second file costs no guard, and what it had comes from the copy or begins anew.
func TestTheSecondFile(t *testing.T) {
	for name, tc := range map[string]struct {
		harm func(h *host) error
		want string
	}{
		"damaged":     {func(h *host) error { return os.WriteFile(h.second(), []byte("nonsense"), 0o600) }, "memory-clock.json: "},
		"a directory": {func(h *host) error { return errors.Join(os.Remove(h.second()), os.Mkdir(h.second(), 0o700)) }, "memory-clock.json"},
		"a FIFO":      {func(h *host) error { return errors.Join(os.Remove(h.second()), unix.Mkfifo(h.second(), 0o600)) }, "memory-clock.json"},
		"a link":      {func(h *host) error { return errors.Join(os.Remove(h.second()), os.Symlink("/etc/passwd", h.second())) }, "memory-clock.json"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			if err := errors.Join(h.store().Save(some(), nil, 15), tc.harm(h)); err != nil {
				t.Fatal(err)
			}
			m := h.store().Load()
			if len(m.Guards) != 3 || m.Now != 15 || !strings.Contains(m.Warning, tc.want) || !m.Changed(m.Guards, nil) {
				t.Errorf("with the copy: %+v", m)
			}
			h.reboot(t, time.Hour)
			if m := h.store().Load(); len(m.Guards) != 3 {
				t.Errorf("after a boot: %+v", m)
			}
			err := h.store().Save(some(), nil, 15)
			if name == "a directory" {
				if err == nil || !strings.Contains(err.Error(), "until the next boot") {
					t.Errorf("save: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m = h.store().Load()
			equal(t, "afterwards", some(), m.Guards)
			if kept, err := os.ReadFile(h.second() + aside); name == "damaged" && string(kept) != "nonsense" {
				t.Errorf("kept is %q, %v", kept, err)
			}
			if m.Warning != "" {
				t.Errorf("afterwards: %q", m.Warning)
			}
		})
	}
}

// The guards that stand stay, whatever befalls the file in the state directory.
func TestWhatStandsOutlivesTheDisk(t *testing.T) {
	for name, harm := range map[string]func(h *host) error{
		"damaged":       func(h *host) error { return os.WriteFile(h.file(), []byte("nonsense"), 0o600) },
		"removed":       func(h *host) error { return os.RemoveAll(h.state) },
		"a directory":   func(h *host) error { return errors.Join(os.Remove(h.file()), os.Mkdir(h.file(), 0o700)) },
		"a FIFO":        func(h *host) error { return errors.Join(os.Remove(h.file()), unix.Mkfifo(h.file(), 0o600)) },
		"a link":        func(h *host) error { return errors.Join(os.Remove(h.file()), os.Symlink("/etc/passwd", h.file())) },
		"a link around": func(h *host) error { return errors.Join(os.RemoveAll(h.state), os.Symlink("/proc/nosuch", h.state)) },
		"without end":   func(h *host) error { return os.Truncate(h.file(), 1<<40) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			daemon := h.store()
			if err := daemon.Save(some(), nil, 15); err != nil {
				t.Fatal(err)
			}
			if err := harm(h); err != nil {
				t.Fatal(err)
			}
			m := h.store().Load()
			equal(t, "with the copy in the run directory", some(), m.Guards)
			if !m.Changed(some(), nil) {
				t.Error("is not written again")
			}
			// A daemon knows it even if all files are gone.
			if err := os.RemoveAll(h.run); err != nil {
				t.Fatal(err)
			}
			equal(t, "with what the daemon knows", some(), daemon.Load().Guards)
		})
	}
}

// On a disk that takes nothing, new guards are kept until the next boot, and written when
// the disk takes them.
// After a boot the run directory has no copy. The first apply makes it, though nothing is
// new, so that a disk that fails later costs no guard.
func TestTheCopyIsMadeAfterABoot(t *testing.T) {
	h := newHost(t)
	guards := some()
	for i := range guards {
		guards[i].Expires = h.wall.Unix() + 1000000
	}
	if err := h.store().Save(guards, nil, h.store().Load().Now); err != nil {
		t.Fatal(err)
	}
	h.reboot(t, time.Hour)
	s := h.store()
	m := s.Load()
	if !m.Changed(m.Guards, nil) {
		t.Fatal("the copy is not made")
	}
	if err := s.Save(m.Guards, nil, m.Now); err != nil {
		t.Fatal(err)
	}
	if m := s.Load(); m.Changed(m.Guards, nil) {
		t.Error("the copy is made again and again")
	}
	if err := errors.Join(os.RemoveAll(h.state), os.WriteFile(h.state, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if m := h.store().Load(); len(m.Guards) != len(guards) || m.Warning == "" {
		t.Errorf("%d guards, warning %q", len(m.Guards), m.Warning)
	}
}

func TestADiskThatTakesNothing(t *testing.T) {
	h := newHost(t)
	if err := h.store().Save(some()[:1], nil, 15); err != nil {
		t.Fatal(err)
	}
	aDirectory := filepath.Join(h.state, "memory.json")
	if err := errors.Join(os.Rename(h.state, h.state+"-"), os.MkdirAll(filepath.Join(aDirectory, "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := h.store().Save(some(), nil, 16); err == nil || !strings.Contains(err.Error(), "until the next boot") {
		t.Errorf("save: %v", err)
	}
	if err := errors.Join(os.RemoveAll(h.state), os.Rename(h.state+"-", h.state)); err != nil {
		t.Fatal(err)
	}
	m := h.store().Load()
	equal(t, "with an older file on the disk", some(), m.Guards)
	if !m.Changed(some(), nil) {
		t.Error("is not written again")
	}
	if err := h.store().Save(some(), nil, 17); err != nil {
		t.Fatal(err)
	}
	h.reboot(t, time.Hour)
	equal(t, "after a reboot", some(), h.store().Load().Guards)
}

// A forgotten guard stays so, though a daemon knew it.
func TestWhatWasForgottenStaysSo(t *testing.T) {
	h := newHost(t)
	daemon := h.store()
	if err := errors.Join(daemon.Save(some(), nil, 15), h.store().Save(some()[1:], nil, 16)); err != nil {
		t.Fatal(err)
	}
	equal(t, "with a daemon", some()[1:], daemon.Load().Guards)
	if err := h.store().Save(nil, nil, 17); err != nil {
		t.Fatal(err)
	}
	equal(t, "all of it", nil, daemon.Load().Guards)
}

// The memory's clock goes by time observed: neither a wall clock that is set nor time
// for which the host is off ends a guard.
func TestTheClock(t *testing.T) {
	h := newHost(t)
	start := h.wall.Unix()
	now := func() int64 { return h.store().Load().Now - start }
	want := func(what string, want time.Duration) {
		t.Helper()
		if got := now(); got != int64(want/time.Second) {
			t.Errorf("%s: %d s have passed, want %v", what, got, want)
		}
	}
	save := func() {
		t.Helper()
		if err := h.store().Save(some(), nil, h.store().Load().Now); err != nil {
			t.Fatal(err)
		}
	}
	save()
	want("at first", 0)
	h.pass(time.Hour)
	want("after an hour", time.Hour)
	for _, wall := range []int64{0, 1 << 31, start + 40*24*3600, -5} {
		h.wall = time.Unix(wall, 0)
		want("with another wall clock", time.Hour)
	}
	save()
	h.reboot(t, 90*24*time.Hour)
	want("after three months off", time.Hour+30*time.Second)
	save()
	h.pass(40 * 24 * time.Hour)
	want("after 40 days up without a look", time.Hour+30*time.Second+24*time.Hour)
	h.up = 0
	want("with a clock of the kernel's that went back", time.Hour+30*time.Second)
	h.boot = ""
	h.up = 10
	want("without a name of the boot", time.Hour+40*time.Second)
}

// A memory without a clock had its times from a wall clock: no guard ends at once,
// whatever the two clocks say.
func TestAMemoryWithoutAClock(t *testing.T) {
	const day = 24 * 3600
	at := func(since, expires int64) guard.Guard {
		g := some()[1]
		g.Since, g.Expires = since, expires
		return g
	}
	for name, tc := range map[string]struct {
		guards []guard.Guard
		wall   int64
		want   int64
	}{
		"all is well":                       {[]guard.Guard{at(100*day, 130*day), at(105*day, 140*day)}, 110 * day, 110 * day},
		"the wall clock has jumped ahead":   {[]guard.Guard{at(100*day, 130*day)}, 500 * day, 129 * day},
		"the wall clock is behind":          {[]guard.Guard{at(100*day, 130*day)}, 0, 100 * day},
		"one was written by a clock ahead":  {[]guard.Guard{at(100*day, 130*day), at(500*day, 530*day)}, 110 * day, 129 * day},
		"one was written by a clock behind": {[]guard.Guard{at(100*day, 130*day), at(3, 30*day)}, 110 * day, 29 * day},
	} {
		if got := begin(tc.guards, tc.wall, "boot", 5).Observed; got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

func TestChanged(t *testing.T) {
	later := func(by int64) []guard.Guard {
		g := some()
		for i := range g {
			g[i].Expires += by
		}
		return g
	}
	for name, tc := range map[string]struct {
		now  []guard.Guard
		want bool
	}{
		"the same": {some(), false}, "a little later": {later(60), false}, "much later": {later(2 * fresher), true},
		"one less": {some()[1:], true}, "sooner": {later(-5), true},
	} {
		if got := (Memory{Guards: some(), Now: 100, written: 90}).Changed(tc.now, nil); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !(Memory{Guards: some(), Now: writtenAfter + 100, written: 90}).Changed(some(), nil) {
		t.Error("the clock is never written")
	}
	if (Memory{Now: writtenAfter + 100}).Changed(nil, nil) {
		t.Error("an empty memory is written")
	}
}

// The written file can be read again after any negotiation of a peer.
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
		fresh := guard.Remember(nil, guard.Live(set, snapshot.Host), set, snapshot.Host, nil, guard.Config{}, 1000).Guards
		b, err := newFile(fresh, nil, nil).encode()
		if err != nil {
			t.Fatal(err)
		}
		got := parse(b)
		if got.damage != nil {
			t.Fatalf("%+v: %v", fresh, got.damage)
		}
		equal(t, "read again", fresh, got.guards)
		remembered += len(fresh)
	}
	if remembered < 500 {
		t.Errorf("only %d guards were ever remembered: the test shows little", remembered)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema":1,"guards":[{"local":"10.2.0.0/24","remote":"10.1.0.0/24","tunnel":"t0123456789","since":1,"expires":2}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		guards := parse(text).guards
		marks := firewall.DefaultMarks()
		for _, rs := range compile.Compile(firewall.Input{Guards: guards, Config: firewall.Config{Marks: marks}}).Rulesets {
			if err := rules.Validate(rs); err != nil {
				t.Errorf("the memory makes rules that are not valid: %v", err)
			}
		}
	})
}

// TestLoadSeesWhatOthersWrote: an earlier result is only used for the very same text.
func TestLoadSeesWhatOthersWrote(t *testing.T) {
	h := newHost(t)
	ours, theirs := h.store(), h.store()
	want := func(what string, want []guard.Guard) {
		t.Helper()
		for name, s := range map[string]Store{"ours": ours, "theirs": theirs, "new": h.store()} {
			m := s.Load()
			if m.Warning != "" {
				t.Fatalf("%s, %s: warning %q", what, name, m.Warning)
			}
			equal(t, what+", "+name, want, m.Guards)
		}
	}
	for what, by := range map[string]Store{"written by us": ours, "written by others": theirs} {
		for n := range 3 {
			if err := by.Save(some()[n:], nil, 15); err != nil {
				t.Fatal(err)
			}
			want(what, some()[n:])
		}
	}
}
