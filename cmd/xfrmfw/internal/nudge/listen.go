package nudge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

// ErrInUse means that another daemon listens on the socket.
var ErrInUse = errors.New("another daemon listens on it")

// taken is the answer to a nudge that was taken. One that was refused gets none.
const taken = '+'

// Listener takes nudges. Connections are answered and closed as they come, and
// nothing is ever read from them, so that a client that is silent or talks
// without end holds nothing up.
type Listener struct {
	dir, name string
	lock      *rundir.Lock
	socket    *net.UnixListener
	inode     uint64
	nudges    chan struct{}
	refused   atomic.Uint64
	done      sync.WaitGroup
}

// Listen makes the socket, for root and this process's own user alone. A socket that an
// earlier daemon left behind is replaced; where one still listens the error is
// ErrInUse.
func Listen(path string) (*Listener, error) {
	l := &Listener{dir: filepath.Dir(path), name: filepath.Base(path), nudges: make(chan struct{}, 1)}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("listen for nudges on %s: %w", path, err)
	}
	l.done.Add(1)
	go l.serve()
	return l, nil
}

// open puts the socket in its place, with its mode, in one step. The lock alone
// would do, but for a program that cleans up the directory.
func (l *Listener) open() (err error) {
	d, err := rundir.Open(l.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	l.lock, err = d.TryLock(l.name + ".lock")
	if errors.Is(err, rundir.ErrLocked) {
		return ErrInUse
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			l.lock.Release()
		}
	}()
	switch st, err := d.Stat(l.name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return errors.New("a file that is not a socket is in its place: remove it")
	default:
		// One that listens to others, but not to us, listens all the same.
		conn, err := dial(d, l.name, time.Now().Add(patience))
		if err == nil {
			_ = conn.Close()
		}
		if err == nil || errors.Is(err, unix.EAGAIN) {
			return ErrInUse
		}
	}
	fresh := l.name + ".new"
	if err := d.RemoveIfAny(fresh); err != nil {
		return err
	}
	private := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		// The kernel gives the file the mode of the socket.
		err := raw.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, failed)
	}}
	listener, err := private.Listen(context.Background(), "unix", d.Handle(fresh))
	if err != nil {
		return err
	}
	socket := listener.(*net.UnixListener)
	socket.SetUnlinkOnClose(false)
	st, err := d.Stat(fresh)
	if err == nil {
		err = d.Rename(fresh, l.name)
	}
	if err != nil {
		_ = socket.Close()
		_ = d.RemoveIfAny(fresh)
		return err
	}
	l.socket, l.inode = socket, st.Ino
	return nil
}

// Stands reports whether a nudge still reaches the listener: its socket and its
// lock are where they were made.
func (l *Listener) Stands() bool {
	d, err := rundir.Open(l.dir)
	if err != nil {
		return false
	}
	defer d.Close()
	return l.has(d) && l.lock.Stands()
}

// has reports whether the socket in its place is the listener's own.
func (l *Listener) has(d *rundir.Dir) bool {
	st, err := d.Stat(l.name)
	return err == nil && st.Ino == l.inode
}

// C gives a value when there were nudges since the last one, however many.
func (l *Listener) C() <-chan struct{} { return l.nudges }

// Refused counts the nudges of users without the right.
func (l *Listener) Refused() uint64 { return l.refused.Load() }

// Close removes the socket, unless another daemon's is in its place.
func (l *Listener) Close() error {
	err := errors.Join(l.remove(), l.socket.Close())
	l.done.Wait()
	l.lock.Release()
	return err
}

func (l *Listener) remove() error {
	d, err := rundir.Open(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if !l.has(d) {
		return nil
	}
	return d.RemoveIfAny(l.name)
}

// serve takes nudges until the socket is closed. While no file descriptor is free it
// waits, and senders get ErrSilent.
func (l *Listener) serve() {
	defer l.done.Done()
	pause := time.Duration(0)
	for {
		conn, err := l.socket.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
			continue
		}
		pause = 0
		if mayNudge(conn) {
			select {
			case l.nudges <- struct{}{}:
			default: // one is waiting already
			}
			// An empty buffer takes a byte at once.
			_, _ = conn.Write([]byte{taken})
		} else {
			l.refused.Add(1)
		}
		_ = conn.Close()
	}
}

// mayNudge asks the kernel for the user at the other end.
func mayNudge(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || failed != nil {
		return false
	}
	return allowed(peer.Uid, uint32(os.Geteuid()))
}

// allowed reports whether a user may nudge a daemon that runs as another.
func allowed(user, own uint32) bool { return user == 0 || user == own }
