package rundir

import (
	"os"

	"golang.org/x/sys/unix"
)

// Watcher tells when entries of a directory are removed, or the directory itself.
type Watcher struct {
	f       *os.File
	removed chan struct{}
}

// Watch watches a directory.
func (d *Dir) Watch() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, d.problem("watch", "", err)
	}
	w := &Watcher{f: os.NewFile(uintptr(fd), "inotify"), removed: make(chan struct{}, 1)}
	const mask = unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, d.Handle("."), mask); err != nil {
		w.Close()
		return nil, d.problem("watch", "", err)
	}
	go w.run()
	return w, nil
}

// run ends with the descriptor.
func (w *Watcher) run() {
	buffer := make([]byte, 4096)
	for {
		if _, err := w.f.Read(buffer); err != nil {
			return
		}
		select {
		case w.removed <- struct{}{}:
		default:
		}
	}
}

// C gives a value when something was removed since the last one. A nil Watcher
// never tells anything.
func (w *Watcher) C() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.removed
}

// Close ends the watch.
func (w *Watcher) Close() {
	if w != nil {
		_ = w.f.Close()
	}
}
