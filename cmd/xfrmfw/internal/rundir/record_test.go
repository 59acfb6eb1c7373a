package rundir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFailureKeepsWhenTheRulesWereRight(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	if r, err := LoadRecord(path); err != nil || r != (Record{}) {
		t.Fatalf("without a file: %+v, %v", r, err)
	}
	if err := Done(path, "apply", 100); err != nil {
		t.Fatal(err)
	}
	if err := Failed(path, "daemon", 200, errors.New("no\xff "+strings.Repeat("x", 2*maxError))); err != nil {
		t.Fatal(err)
	}
	r, err := LoadRecord(path)
	if err != nil || r.By != "daemon" || r.Reconciled != 100 || r.Failed != 200 {
		t.Errorf("after a failure: %+v, %v", r, err)
	}
	if !strings.HasPrefix(r.Error, "no? xxx") || len(r.Error) > maxError+10 {
		t.Errorf("error has %d bytes and begins with %.10q", len(r.Error), r.Error)
	}
	if err := Done(path, "hook", 300); err != nil {
		t.Fatal(err)
	}
	if r, err := LoadRecord(path); err != nil || r != (Record{By: "hook", Reconciled: 300}) {
		t.Errorf("after success: %+v, %v", r, err)
	}
}

func TestNonsenseIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"empty": "", "cut": `{"by":"daemon","recon`, "negative": `{"reconciled":-1}`, "negative failure": `{"failed":-1}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := LoadRecord(path); err != nil || r != (Record{}) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "long"), make([]byte, maxRecord+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRecord(filepath.Join(dir, "long")); err == nil {
		t.Error("a file without bounds was read")
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "empty"), link); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRecord(link); err == nil {
		t.Error("a link was followed")
	}
}
