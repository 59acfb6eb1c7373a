package nudge

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

var (
	// ErrNobody means that no daemon listens.
	ErrNobody = errors.New("no daemon listens")
	// ErrRefused means that the daemon takes no nudges from this user.
	ErrRefused = errors.New("the daemon takes nudges only from root and its own user")
	// ErrSilent means that the daemon did not answer in time. It may take the nudge
	// later.
	ErrSilent = errors.New("the daemon does not answer")
)

// patience is how long Send waits, as the IKE daemon waits for a hook.
const patience = 200 * time.Millisecond

// Send nudges the daemon behind the socket. When it returns nil, the daemon's
// next look at the kernel is yet to begin.
func Send(path string) error {
	if err := send(path); err != nil {
		return fmt.Errorf("nudge the daemon: %w", err)
	}
	return nil
}

func send(path string) error {
	d, err := rundir.Open(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNobody
	}
	if err != nil {
		return err
	}
	defer d.Close()
	name := filepath.Base(path)
	deadline := time.Now().Add(patience)
	for {
		conn, err := dial(d, name, deadline)
		switch {
		case errors.Is(err, unix.EAGAIN) && time.Now().Before(deadline):
			time.Sleep(time.Millisecond) // its queue is full of others' nudges
			continue
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
			return ErrNobody
		case errors.Is(err, unix.EAGAIN), isTimeout(err):
			return ErrSilent
		case err != nil:
			return err
		}
		return await(conn, deadline)
	}
}

// dial connects to a socket, and to nothing that a link leads to.
func dial(d *rundir.Dir, name string, deadline time.Time) (net.Conn, error) {
	socket, err := d.Socket(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = socket.Close() }()
	dialer := net.Dialer{Deadline: deadline}
	return dialer.Dial("unix", fmt.Sprintf("/proc/self/fd/%d", socket.Fd()))
}

// await reads the answer: a byte, or the end if there is none.
func await(conn net.Conn, deadline time.Time) error {
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	var answer [1]byte
	switch _, err := io.ReadFull(conn, answer[:]); {
	case errors.Is(err, io.EOF):
		return ErrRefused
	case isTimeout(err):
		return ErrSilent
	case err != nil: // it ended with our nudge in its queue
		return errors.Join(ErrNobody, err)
	case answer[0] != taken:
		return fmt.Errorf("the answer %q is not a daemon's", answer[0])
	}
	return nil
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
