package nudge

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse tells that another daemon listens on the socket.
var ErrInUse = errors.New("another daemon listens on it")

// taken is the answer to a nudge that was taken. One that was refused gets none.
const taken = '+'

// Listener takes nudges. Connections are answered and closed as they come, and
// nothing is ever read from them, so that a client that is silent or talks
// without end holds nothing up.
type Listener struct {
	path    string
	lock    *os.File
	socket  *net.UnixListener
	nudges  chan struct{}
	refused atomic.Uint64
	done    sync.WaitGroup
}

// Listen makes the socket, for root and this process's own user alone. What an
// earlier daemon left behind is replaced; where one still listens the error is
// ErrInUse.
func Listen(path string) (*Listener, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("listen for nudges: %w", err)
	}
	l := &Listener{path: path, lock: lock, nudges: make(chan struct{}, 1)}
	if err := l.open(); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("listen for nudges on %s: %w", path, err)
	}
	l.done.Add(1)
	go l.serve()
	return l, nil
}

// open puts the socket in its place, with its mode, in one step. The lock alone
// would do, but for someone who cleans up the directory.
func (l *Listener) open() error {
	switch err := unix.Flock(int(l.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrInUse
	case err != nil:
		return fmt.Errorf("lock: %w", err)
	}
	switch info, err := os.Lstat(l.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("something that is no socket is in the way: remove it")
	default:
		// One that listens to others, but not to us, listens all the same.
		if conn, err := net.DialTimeout("unix", l.path, patience); err == nil || errors.Is(err, unix.EAGAIN) {
			if err == nil {
				_ = conn.Close()
			}
			return ErrInUse
		}
	}
	fresh := l.path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return err
	}
	socket.SetUnlinkOnClose(false)
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, l.path)
	}
	if err != nil {
		_ = socket.Close()
		_ = os.Remove(fresh)
		return err
	}
	l.socket = socket
	return nil
}

// C gives a value when there were nudges since the last one, however many.
func (l *Listener) C() <-chan struct{} { return l.nudges }

// Refused counts the nudges of users who may not.
func (l *Listener) Refused() uint64 { return l.refused.Load() }

// Close removes the socket.
func (l *Listener) Close() error {
	// While the lock is held the file is ours.
	err := os.Remove(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, l.socket.Close())
	l.done.Wait()
	return errors.Join(err, l.lock.Close())
}

// serve takes nudges until the socket is closed. Without file descriptors left,
// it waits for some: senders then find that nobody answers.
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

// mayNudge asks the kernel who is at the other end.
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
