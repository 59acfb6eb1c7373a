package nudge

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrNobody tells that no daemon listens.
	ErrNobody = errors.New("no daemon listens")
	// ErrRefused tells that the daemon takes no nudges from this user.
	ErrRefused = errors.New("the daemon takes nudges only from root and its own user")
	// ErrSilent tells that there is a daemon that did not answer in time. It may
	// take the nudge yet.
	ErrSilent = errors.New("the daemon does not answer")
)

// patience is how long Send waits, as the IKE daemon waits for a hook.
const patience = 200 * time.Millisecond

// Send nudges the daemon behind the socket. When it returns nil, the daemon's
// next look at the kernel is yet to begin.
func Send(path string) error {
	deadline := time.Now().Add(patience)
	dialer := net.Dialer{Deadline: deadline}
	for {
		conn, err := dialer.Dial("unix", path)
		switch {
		case errors.Is(err, unix.EAGAIN) && time.Now().Before(deadline):
			time.Sleep(time.Millisecond) // its queue is full of others' nudges
			continue
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
			return fmt.Errorf("nudge the daemon: %w", ErrNobody)
		case errors.Is(err, unix.EAGAIN), isTimeout(err):
			return fmt.Errorf("nudge the daemon: %w", ErrSilent)
		case err != nil:
			return fmt.Errorf("nudge the daemon: %w", err)
		}
		return await(conn, deadline)
	}
}

// await reads the answer: a byte, or the end if there is none.
func await(conn net.Conn, deadline time.Time) error {
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("nudge the daemon: %w", err)
	}
	var answer [1]byte
	switch _, err := io.ReadFull(conn, answer[:]); {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("nudge the daemon: %w", ErrRefused)
	case isTimeout(err):
		return fmt.Errorf("nudge the daemon: %w", ErrSilent)
	case err != nil: // it ended with our nudge in its queue
		return fmt.Errorf("nudge the daemon: %w", errors.Join(ErrNobody, err))
	case answer[0] != taken:
		return fmt.Errorf("nudge the daemon: the answer %q is not a daemon's", answer[0])
	}
	return nil
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
