package gateway

import (
	"context"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"testing"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

func options(t *testing.T) Options {
	dir := t.TempDir()
	return Options{
		Dirs:   rundir.Dirs{Run: filepath.Join(dir, "run"), State: filepath.Join(dir, "lib")},
		Config: filepath.Join(dir, "none.yaml"),
	}
}

// The collector is the process's, which main sets.
func TestOpenLeavesTheCollectorAlone(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "")
	o := options(t)
	o.Snapshot = "snapshot.json"
	if _, err := Open(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	if percent := debug.SetGCPercent(100); percent != 100 {
		t.Errorf("the collector starts at %d percent, was 100", percent)
	}
}

// Scrapes look at the host beside the daemon's own turns, so the two gateways share
// nothing that either changes. The programs are made for several at once, and the
// configuration is only read.
func TestForkSharesNoCache(t *testing.T) {
	g, err := OpenWithoutPrograms(options(t))
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenWithoutPrograms(options(t))
	if err != nil {
		t.Fatal(err)
	}
	again.Inherit(g) // as SIGHUP does
	f, err := again.Fork()
	if err != nil {
		t.Fatal(err)
	}
	one, other := reflect.ValueOf(*again), reflect.ValueOf(*f)
	for i := range one.NumField() {
		name := one.Type().Field(i).Name
		if name == "programs" || name == "config" || name == "options" {
			continue
		}
		for _, shared := range sharedPointers(one.Field(i), other.Field(i), name) {
			t.Errorf("%s is shared", shared)
		}
	}
}

// sharedPointers names the fields that lead from both values to the same memory.
func sharedPointers(a, b reflect.Value, name string) []string {
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Chan, reflect.Slice:
		if !a.IsNil() && a.Pointer() == b.Pointer() {
			return []string{name}
		}
	case reflect.Struct:
		var found []string
		for i := range a.NumField() {
			found = append(found, sharedPointers(a.Field(i), b.Field(i), name+"."+a.Type().Field(i).Name)...)
		}
		return found
	}
	return nil
}
