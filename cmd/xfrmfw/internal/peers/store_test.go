package peers

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a time that tests set.
type clock struct{ at time.Duration }

func (c *clock) now() time.Duration { return c.at }

func testStore(t *testing.T) (*Store, *clock) {
	t.Helper()
	c := &clock{time.Hour}
	return newStore(filepath.Join(t.TempDir(), "run", "peers-1"), c.now, "boot"), c
}

// of is the record of a peer with that number.
func of(t *testing.T, n int, changes ...func(*Record)) Record {
	t.Helper()
	event, err := FromEnviron(charon)
	if err != nil {
		t.Fatal(err)
	}
	r := event.Record
	r.PeerID, r.User, r.Reqid = fmt.Sprintf("peer%d", n), "", uint32(n)
	r.Remote = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 3, byte(n >> 8), byte(n)}), 32)
	r.Outer = netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
	for _, change := range changes {
		change(&r)
	}
	return r
}

func load(t *testing.T, s *Store) []Record {
	t.Helper()
	records, warnings, err := s.Load()
	if err != nil || len(warnings) > 0 {
		t.Fatalf("load: %v %q", err, warnings)
	}
	return records
}

func ids(records []Record) map[string]bool {
	found := make(map[string]bool)
	for _, r := range records {
		found[r.PeerID] = true
	}
	return found
}

func TestUpAndDown(t *testing.T) {
	s, clock := testStore(t)
	if got := load(t, s); len(got) != 0 {
		t.Fatalf("without a directory: %+v", got)
	}
	for n := range 3 {
		if err := s.Put(of(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	if got := ids(load(t, s)); len(got) != 3 {
		t.Errorf("loaded %v, want three", got)
	}
	clock.at += time.Second
	if err := s.Put(of(t, 1, func(r *Record) { r.Outer = netip.MustParseAddr("198.51.100.99") })); err != nil {
		t.Fatal(err)
	}
	for _, r := range load(t, s) {
		if r.PeerID == "peer1" && (r.Outer.String() != "198.51.100.99" || r.Time != int64(clock.at)) {
			t.Errorf("the record of who came again is %+v", r)
		}
	}
	if err := s.Down(of(t, 1)); err != nil {
		t.Error(err)
	}
	if err := s.Down(of(t, 7)); err != nil {
		t.Errorf("down of one that never was up: %v", err)
	}
	if got := ids(load(t, s)); len(got) != 2 || got["peer1"] {
		t.Errorf("loaded %v, want peer0 and peer2", got)
	}
}

// TestLoadSeesEachChange loads by turns with a hook, with and without the time
// that it takes until the directory's own time can be relied on.
func TestLoadSeesEachChange(t *testing.T) {
	s, _ := testStore(t)
	hook := newStore(s.path, SinceBoot, "boot")
	for n := 1; n <= 40; n++ {
		if err := hook.Put(of(t, n)); err != nil {
			t.Fatal(err)
		}
		if n%20 == 0 {
			old := time.Now().Add(-time.Duration(n) * time.Minute)
			if err := os.Chtimes(s.path, old, old); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if got := len(load(t, s)); got != n {
				t.Fatalf("loaded %d records, want %d", got, n)
			}
		}
	}
}

// TestDownOfTheFormer is charon's events when a peer authenticates again before its
// former IKE SA ends, and those after a rekey of the IKE SA.
func TestDownOfTheFormer(t *testing.T) {
	serial := func(n uint32) func(*Record) { return func(r *Record) { r.Serial = n } }
	for _, test := range []struct {
		name     string
		up, down uint32
		stays    bool
	}{
		{"the former one ends", 3, 2, true},
		{"its own end", 3, 3, false},
		{"its end after a rekey of the IKE SA", 3, 9, false},
		{"a daemon without numbers", 0, 0, false},
	} {
		s, _ := testStore(t)
		if err := s.Put(of(t, 1, serial(test.up))); err != nil {
			t.Fatal(err)
		}
		if err := s.Down(of(t, 1, serial(test.down))); err != nil {
			t.Fatal(err)
		}
		if got := len(load(t, s)) == 1; got != test.stays {
			t.Errorf("%s: stays %v, want %v", test.name, got, test.stays)
		}
	}
}

func TestManyHooksAtOnce(t *testing.T) {
	s, _ := testStore(t)
	var all sync.WaitGroup
	for n := range 200 {
		all.Add(1)
		go func() {
			defer all.Done()
			// Each hook is a process of its own, with a store of its own.
			hook := newStore(s.path, SinceBoot, "boot")
			if err := hook.Put(of(t, n)); err != nil {
				t.Error(err)
			}
			if n%2 == 0 {
				for hook.Down(of(t, n)) != nil { // the lock may be busy for long
				}
			}
		}()
	}
	for range 20 {
		if _, warnings, err := s.Load(); err != nil || len(warnings) > 0 {
			t.Errorf("load in between: %v %q", err, warnings)
		}
	}
	all.Wait()
	if got := ids(load(t, s)); len(got) != 100 || got["peer0"] || !got["peer1"] {
		t.Errorf("%d records, want those of the 100 that are up", len(got))
	}
}

func TestDamageIsSetAside(t *testing.T) {
	for name, text := range map[string]string{
		"cut": `{"daemon":"strongswan","conn`, "empty": "", "binary": "\x00\xff", "long": strings.Repeat(" ", maxSize+1),
		"another's": "", // replaced below
		"dirty":     `{"daemon":"strongswan","connection":"a\nb","local":"10.0.0.0/8","remote":"10.1.0.0/16","outer":""}`,
	} {
		s, _ := testStore(t)
		for n := range 2 {
			if err := s.Put(of(t, n)); err != nil {
				t.Fatal(err)
			}
		}
		if name == "another's" {
			r := of(t, 7)
			r.Boot = "boot"
			encoded, err := r.encode()
			if err != nil {
				t.Fatal(err)
			}
			text = string(encoded)
		}
		if err := os.WriteFile(filepath.Join(s.path, of(t, 0).name()+ending), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		records, warnings, err := s.Load()
		if err != nil || len(warnings) != 1 || !ids(records)["peer1"] || len(records) != 1 {
			t.Errorf("%s: %+v %q %v", name, records, warnings, err)
		}
		if _, err := os.Lstat(filepath.Join(s.path, of(t, 0).name()+ending)); err != nil {
			t.Errorf("%s: a mere look moved the file: %v", name, err)
		}
		if err := s.Sweep(nil); err != nil {
			t.Error(err)
		}
		if set, _ := filepath.Glob(filepath.Join(s.path, aside+"*")); len(set) != 1 {
			t.Errorf("%s: set aside are %v", name, set)
		}
		if records, warnings, err := s.Load(); err != nil || len(warnings) != 1 || len(records) != 1 {
			t.Errorf("%s, again: %+v %q %v", name, records, warnings, err)
		}
		if err := s.Put(of(t, 0)); err != nil {
			t.Fatal(err)
		}
		if records, _, err := s.Load(); err != nil || len(records) != 2 {
			t.Errorf("%s: who comes again is not recorded: %+v %v", name, records, err)
		}
	}
}

// TestForeignFiles puts links and pipes where records are.
func TestForeignFiles(t *testing.T) {
	s, _ := testStore(t)
	if err := s.Put(of(t, 1)); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(s.path, of(t, 0).name()+ending)
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	records, warnings, err := s.Load()
	if err != nil || len(records) != 1 || len(warnings) != 1 {
		t.Errorf("a link: %+v %q %v", records, warnings, err)
	}
	if err := s.Put(of(t, 0)); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(secret); string(got) != "mine" {
		t.Errorf("the file that a link led to is %q (%v)", got, err)
	}
}

// A full share refuses new records and takes no room of others. Load names it.
func TestBounded(t *testing.T) {
	s, _ := testStore(t)
	mallory := func(n int) Record { return of(t, n, func(r *Record) { r.PeerID = "mallory" }) }
	if err := s.Put(mallory(1)); err != nil {
		t.Fatal(err)
	}
	for n := range maxByPeer - 1 {
		if err := os.WriteFile(filepath.Join(s.path, fmt.Sprintf("%s%022x%s", mallory(1).share(), n, ending)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(mallory(2)); err == nil || !strings.Contains(err.Error(), "there are 4096 records of this peer") {
		t.Errorf("one more than there may be: %v", err)
	}
	for _, r := range []Record{mallory(1), of(t, 3), of(t, 4)} { // one that is there, and others
		if err := s.Put(r); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := s.Load(); err != nil {
		t.Fatal(err)
	}
	if full := s.Full(); len(full) != 1 || full[0].Of != `peer "mallory" of connection "rw"` || full[0].Count != maxByPeer {
		t.Errorf("full are %+v", full)
	}
	if err := s.Down(mallory(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(mallory(2)); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

func TestShares(t *testing.T) {
	names := func(n int, name func(n int) string) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = name(i)
		}
		return list
	}
	connection := func(n int) string { return fmt.Sprintf("0123%06x%022x.json", n, 0) }
	anybody := func(n int) string { return fmt.Sprintf("%010x%022x.json", n*0x1000001, 0) }
	for _, tt := range []struct {
		name, share string
		names       []string
		full        int
	}{
		{"room", "0123000001", names(maxByConnection-1, connection), 0},
		{"each peer of a connection with another identity", "0123ffffff", names(maxByConnection, connection), maxByConnection},
		{"another connection beside it", "4567ffffff", names(maxByConnection, connection), 0},
		{"all", "89abffffff", names(maxRecords, anybody), maxRecords},
	} {
		t.Run(tt.name, func(t *testing.T) {
			full := fullShares(tt.names, tt.share)
			if tt.full == 0 && len(full) > 0 || tt.full > 0 && (len(full) != 1 || full[0].Most != tt.full) {
				t.Errorf("full are %+v", full)
			}
		})
	}
}

// A record that an earlier release wrote counts, and is replaced and removed like others.
func TestFormerNames(t *testing.T) {
	s, _ := testStore(t)
	r := of(t, 1)
	if err := s.Put(r); err != nil {
		t.Fatal(err)
	}
	former := func() {
		t.Helper()
		if err := os.Rename(filepath.Join(s.path, r.name()+ending), filepath.Join(s.path, r.formerName()+ending)); err != nil {
			t.Fatal(err)
		}
	}
	former()
	if got := ids(load(t, s)); !got["peer1"] {
		t.Errorf("the record of an earlier release is not known: %v", got)
	}
	if err := s.Put(r); err != nil {
		t.Fatal(err)
	}
	if records := load(t, s); len(records) != 1 {
		t.Errorf("%d records, want one", len(records))
	}
	former()
	if err := s.Down(r); err != nil {
		t.Fatal(err)
	}
	if records := load(t, s); len(records) != 0 {
		t.Errorf("%d records are left of a peer that went", len(records))
	}
}

func TestAnotherBoot(t *testing.T) {
	s, clock := testStore(t)
	if err := s.Put(of(t, 1)); err != nil {
		t.Fatal(err)
	}
	next := newStore(s.path, clock.now, "next boot")
	if got := load(t, next); len(got) != 0 {
		t.Errorf("after a reboot: %+v", got)
	}
	if err := next.Put(of(t, 2)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".x.json-0123abcd", "another's"} {
		if err := os.WriteFile(filepath.Join(s.path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load(t, next)
	if err := next.Sweep(nil); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(s.path)
	if err != nil || len(left) != 2 || left[0].Name() != of(t, 2).name()+ending || left[1].Name() != "another's" {
		t.Errorf("left are %v (%v)", left, err)
	}
}

func TestSweepSparesWhatCameAgain(t *testing.T) {
	s, clock := testStore(t)
	for n := range 2 {
		if err := s.Put(of(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	stale := load(t, s)
	clock.at += time.Second
	if err := s.Put(of(t, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(stale); err != nil {
		t.Fatal(err)
	}
	if got := ids(load(t, s)); len(got) != 1 || !got["peer1"] {
		t.Errorf("left are %v, want peer1", got)
	}
}

func BenchmarkLoad(b *testing.B) {
	s := newStore(filepath.Join(b.TempDir(), "peers"), SinceBoot, "boot")
	event, err := FromEnviron(charon)
	if err != nil {
		b.Fatal(err)
	}
	for n := range 10000 {
		r := event.Record
		r.Reqid = uint32(n + 1)
		if err := s.Put(r); err != nil {
			b.Fatal(err)
		}
	}
	for _, again := range []bool{false, true} {
		b.Run(map[bool]string{false: "first", true: "again"}[again], func(b *testing.B) {
			for b.Loop() {
				if !again {
					clear(s.seen)
				}
				if _, _, err := s.Load(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestTheDirectoryIsNoLink: where the directory of records is a link, nothing is read,
// written or removed where it leads to.
func TestTheDirectoryIsNoLink(t *testing.T) {
	s, _ := testStore(t)
	outside := t.TempDir()
	old := time.Now().Add(-48 * time.Hour)
	for _, name := range []string{"passwd", ".x.json-0123abcd", of(t, 1).name() + ending} {
		path := filepath.Join(outside, name)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Dir(s.path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, s.path); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(of(t, 1)); err == nil {
		t.Error("a record was put through a link")
	}
	if records, _, err := s.Load(); err == nil || len(records) > 0 {
		t.Errorf("loaded %v (%v) through a link", records, err)
	}
	if err := s.Down(of(t, 1)); err == nil {
		t.Error("a record was removed through a link")
	}
	if err := s.Sweep(load(t, newStore(filepath.Join(outside, "none"), SinceBoot, "boot"))); err == nil {
		t.Error("swept through a link")
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != 3 {
		t.Errorf("left are %v (%v)", left, err)
	}
	for _, entry := range left {
		if text, err := os.ReadFile(filepath.Join(outside, entry.Name())); string(text) != "precious" {
			t.Errorf("%s is %q (%v)", entry.Name(), text, err)
		}
	}
}

// TestAWallClockIsNoRecordsClock: a record with a time that lies ahead, as one of a
// version that took it from the wall clock, is not the newest.
func TestAWallClockIsNoRecordsClock(t *testing.T) {
	s, clock := testStore(t)
	if err := s.Put(of(t, 1)); err != nil {
		t.Fatal(err)
	}
	r := load(t, s)[0]
	r.Time = time.Now().UnixNano()
	text, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.path, r.name()+ending), text, 0o600); err != nil {
		t.Fatal(err)
	}
	clock.at += time.Second
	if got := load(t, newStore(s.path, clock.now, "boot"))[0]; got.Time > int64(clock.at) {
		t.Errorf("its time is %d, which is yet to come", got.Time)
	}
}
