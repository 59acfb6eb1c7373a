package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// eventBuffer is the socket's receive buffer. An event with a key takes some
// 1.3 KiB of it, so this holds the rekeying of several thousand states at once.
const eventBuffer = 8 << 20

// The multicast groups that are watched (XFRMNLGRP_*). AEVENTS and REPORT tell
// nothing that a rule depends on.
const (
	groupAcquire = 1
	groupExpire  = 2
	groupSA      = 3
	groupPolicy  = 4
	groupMigrate = 7
	groupMapping = 8
)

// Watcher tells when something in the kernel may have changed: its states and
// policies, the subject of Watch, or the subjects of WatchHost and WatchTables. It says
// no more than that: the receiver reads the kernel again.
type Watcher struct {
	conn *conn
	// look counts one notification and reports whether it asks for a look. It
	// is called with mu held.
	look  func(m message) bool
	dirty chan struct{}

	mu     sync.Mutex
	counts Counts
}

// Counts are the notifications of a Watcher since it started.
type Counts struct {
	// Events counts the notifications of each kind that Watch knows.
	Events [wire.Events]uint64 `json:"events"`
	// Seen counts all that were looked at.
	Seen uint64 `json:"seen"`
	// Lost counts how often the kernel had to drop some, each time an unknown
	// number of them.
	Lost uint64 `json:"lost"`
}

// Watch subscribes to the kernel's notifications. Every change after its return
// is reported, so a first Read has to come after it. The error is ErrPermission,
// ErrNoXFRM or the socket's. Close releases the socket.
func Watch() (*Watcher, error) {
	return WatchFor(func(typ uint16, body []byte) bool { return wire.Classify(typ, body).Look() })
}

// WatchFor is Watch with another judgement of which notifications ask for a look. Run
// calls it for one message at a time, with the message's type and its bytes behind the
// nlmsghdr. The bytes may hold keys and are wiped afterwards.
func WatchFor(relevant func(typ uint16, body []byte) bool) (*Watcher, error) {
	c, err := dial(make([]byte, bufferSize),
		groupAcquire, groupExpire, groupSA, groupPolicy, groupMigrate, groupMapping)
	if err != nil {
		return nil, fmt.Errorf("watch the kernel: %w", err)
	}
	w := newWatcher(c)
	w.look = func(m message) bool {
		w.counts.Events[wire.Classify(m.typ, m.body)]++
		return relevant(m.typ, m.body)
	}
	return w, nil
}

func newWatcher(c *conn) *Watcher {
	// The force needs CAP_NET_ADMIN in the first user namespace. Without it the
	// buffer is the size that net.core.rmem_max allows, and only more is Lost.
	if c.socket.SetReceiveBufferSize(eventBuffer, true) != nil {
		_ = c.socket.SetReceiveBufferSize(eventBuffer, false)
	}
	return &Watcher{conn: c, dirty: make(chan struct{}, 1)}
}

// SetBuffer makes the receive buffer so many bytes large, or as many as the kernel
// allows, in place of 8 MiB. With a small one a storm loses notifications, by which
// tests show that no harm comes of a loss.
func (w *Watcher) SetBuffer(bytes int) error { return w.conn.socket.SetReceiveBufferSize(bytes, false) }

// Dirty is ready when the kernel has to be read again. However much happens
// until the channel is read, it is ready once.
func (w *Watcher) Dirty() <-chan struct{} { return w.dirty }

// Counts returns a copy of the counters. It may be called at any time. Dirty has told of each
// notification that is counted.
func (w *Watcher) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts
}

// Run receives notifications until ctx is done, and then returns nil. It never
// waits for the reader of Dirty. Lost notifications make it dirty, and are no
// error. After any other error of the socket, which it returns, the caller
// opens a new Watcher and reads the kernel. Run can be called once.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.conn.until(ctx)()
	for {
		err := w.conn.receive(w.events)
		var short errTruncated
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errLost), errors.As(err, &short):
			w.lost()
		default:
			w.notify()
			return fmt.Errorf("receive the kernel's notifications: %w", err)
		}
	}
}

// Close releases the socket. It must not be called before Run has returned.
func (w *Watcher) Close() { w.conn.close() }

// events counts the notifications of one datagram.
func (w *Watcher) events(b []byte) error {
	for len(b) > 0 {
		m, rest, err := next(b)
		if err != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
		b = rest
		switch m.typ {
		case unix.NLMSG_NOOP, unix.NLMSG_DONE, unix.NLMSG_ERROR:
			continue
		case unix.NLMSG_OVERRUN:
			return errLost
		}
		w.mu.Lock()
		w.counts.Seen++
		if w.look(m) {
			w.notify()
		}
		w.mu.Unlock()
	}
	return nil
}

func (w *Watcher) lost() {
	w.mu.Lock()
	w.counts.Lost++
	w.notify()
	w.mu.Unlock()
}

func (w *Watcher) notify() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}
