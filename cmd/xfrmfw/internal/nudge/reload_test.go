package nudge

import (
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

// A daemon that has just started, or that a busy machine keeps from answering for a while,
// is reached all the same.
func TestReloadOfALateDaemon(t *testing.T) {
	dirs := rundir.Dirs{Run: t.TempDir()}
	if err := Reload(dirs); err != nil || WillReload(dirs) {
		t.Errorf("without a daemon: %v", err)
	}
	lock, err := dirs.LockDaemon(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path, err := dirs.Socket()
	if err != nil {
		t.Fatal(err)
	}
	reloaded := make(chan error, 1)
	go func() { reloaded <- Reload(dirs) }()
	time.Sleep(2 * patience)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-reloaded; err != nil {
		t.Error(err)
	}
	nudged(t, l, true)
	if !Reloading(dirs) {
		t.Error("no request was left")
	}
	// One that ends meanwhile needs no waking.
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	go func() { reloaded <- Reload(dirs) }()
	time.Sleep(2 * patience)
	lock.Release()
	if err := <-reloaded; err != nil {
		t.Errorf("the daemon ended: %v", err)
	}
}
