package approved

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestHoldConfirmApprove(t *testing.T) {
	s := In(filepath.Join(t.TempDir(), "state"))
	old, fresh, third := Text{Text: "old"}, Text{Text: "new"}, Text{Text: "third"}
	held := func(what string, now Text, want *Text, wantHeld bool) {
		t.Helper()
		before, held, err := s.Held("a.yaml", now)
		if err != nil || held != wantHeld || !same(before, want) {
			t.Errorf("%s: %v, %v, %v", what, before, held, err)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	held("nothing is known", fresh, nil, false)
	do(s.Hold("a.yaml", fresh))
	held("held, and none was in force before", fresh, nil, true)
	do(s.Approve("a.yaml", old))
	held("applied by hand", old, nil, false)
	held("what was held", fresh, nil, false)
	do(s.Hold("a.yaml", fresh))
	held("held", fresh, &old, true)
	held("changed since", third, nil, false)
	held("gone since", Text{Absent: true}, nil, false)
	if _, held, _ := s.Held("b.yaml", fresh); held {
		t.Error("another file is held")
	}
	do(s.Confirm("a.yaml"))
	held("confirmed", fresh, nil, false)
	do(s.Hold("a.yaml", fresh))
	held("held again as it was approved", fresh, nil, false)
	do(s.Hold("a.yaml", third))
	held("the next", third, &fresh, true)
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	dir := t.TempDir()
	s := In(dir)
	for i := range 3 * maxFiles {
		if err := s.Approve(strconv.Itoa(i), Text{}); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := s.read(); err != nil || len(f.Files) != maxFiles || f.Files[0].Path != strconv.Itoa(3*maxFiles-1) {
		t.Errorf("%v, %v", f, err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, held, err := s.Held("x", Text{}); held || err != nil {
		t.Errorf("nonsense: %v, %v", held, err)
	}
	if err := s.Hold("x", Text{}); err != nil {
		t.Error(err)
	}
}
