package nftables

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/test/lab"
)

func TestFindTouchesNothing(t *testing.T) {
	c := open(t)
	before, err := c.Generation()
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Find()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", f)
	if f.Persist && !f.Owner {
		t.Error("persist without owner")
	}
	after, err := c.Generation()
	if err != nil || after != before {
		t.Errorf("generation %+v became %+v: %v", before, after, err)
	}
	if out := nft(t, "", "list", "ruleset"); out != "" {
		t.Errorf("left behind:\n%s", out)
	}
}

// A table with an owner is safe from other programs, outlives its socket and is
// taken over by the next process.
func TestOwnedTable(t *testing.T) {
	c := open(t)
	f, err := c.Find()
	if err != nil {
		t.Fatal(err)
	}
	if !f.Persist {
		lab.Lacking(t, "persist", "the kernel keeps no table behind its owner")
	}
	want := everything()
	want.Flags = sets.Owner | sets.Persist
	first, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	s := read(t, first)
	if _, err := first.Apply(s, sets.Diff(s.Table, want), want); err != nil {
		t.Fatal(err)
	}
	nft(t, "", "flush", "ruleset")
	if out, err := exec.Command("nft", "delete", "table", "inet", testTable).CombinedOutput(); err == nil {
		t.Errorf("another program deleted the table: %s", out)
	}
	s = read(t, c)
	if diff := cmp.Diff(bare(want), bare(s.Table)); diff != "" {
		t.Fatal(diff)
	}
	if s.Owner != first.Port() {
		t.Errorf("owner %d, want %d", s.Owner, first.Port())
	}
	less := everything()
	less.Flags = want.Flags
	less.Sets[0].Elements = nil
	if _, err := c.Apply(s, sets.Diff(s.Table, less), less); !errors.Is(err, ErrOwned) {
		t.Errorf("got %v, want ErrOwned", err)
	}
	// The service manager keeps the socket over a restart.
	file, err := first.File()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Adopt(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	s = read(t, second)
	if s.Owner != second.Port() {
		t.Fatalf("owner %d, want %d", s.Owner, second.Port())
	}
	if _, err := second.Apply(s, sets.Diff(s.Table, less), less); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	// Without its owner the table is there, and the next process takes it.
	s = read(t, c)
	if s.Owner != 0 || s.Table.Flags != sets.Persist {
		t.Fatalf("owner %d, flags %v", s.Owner, s.Table.Flags)
	}
	if _, err := c.Apply(s, sets.Diff(s.Table, want), want); err != nil {
		t.Fatal(err)
	}
	if s = read(t, c); s.Owner != c.Port() || s.Table.Flags != want.Flags {
		t.Errorf("owner %d, want %d, flags %v", s.Owner, c.Port(), s.Table.Flags)
	}
	// An owner is given to no table that exists: it is made anew in one transaction.
	plain := everything()
	apply(t, c, plain)
	apply(t, c, want)
}

func TestAdoptRefusesAnotherSocket(t *testing.T) {
	c := open(t)
	_ = c
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := Adopt(r); err == nil {
		t.Error("a pipe was adopted")
	}
}
