package metrics

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// stalled is how long a client may leave an answer unread before its place is given
// to another one. Clients are on this host.
const stalled = time.Second

// bounded is a listener with a bound for its open connections. A further one
// takes the place of the oldest that is not being answered, or does not read its
// answer, so that a scrape does not wait for clients that are silent or slow.
type bounded struct {
	net.Listener
	most int

	mu     sync.Mutex
	change *sync.Cond // of open, a slot's busy, or closed
	open   []*slot    // the oldest first
	closed bool
}

// slot is a connection that counts.
type slot struct {
	net.Conn
	of   *bounded
	busy bool // a request is being answered
	// writing is when the write that has not returned yet began.
	writing time.Time
}

func newBounded(l net.Listener, most int) *bounded {
	b := &bounded{Listener: l, most: most}
	b.change = sync.NewCond(&b.mu)
	return b
}

// Accept waits for a connection, and for room for it.
func (b *bounded) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.open) >= b.most && !b.closed {
		if oldest := b.evictable(time.Now()); oldest >= 0 {
			_ = b.open[oldest].Conn.Close()
			b.open = slices.Delete(b.open, oldest, oldest+1)
			break
		}
		again := time.AfterFunc(stalled/4, b.change.Broadcast)
		b.change.Wait()
		again.Stop()
	}
	if b.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	s := &slot{Conn: c, of: b}
	b.open = append(b.open, s)
	return s, nil
}

// evictable is the place of the connection that gives room, or -1.
func (b *bounded) evictable(now time.Time) int {
	if idle := slices.IndexFunc(b.open, func(s *slot) bool { return !s.busy }); idle >= 0 {
		return idle
	}
	return slices.IndexFunc(b.open, func(s *slot) bool { return !s.writing.IsZero() && now.Sub(s.writing) > stalled })
}

// Close ends Accept too where it waits for room.
func (b *bounded) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.change.Broadcast()
	return b.Listener.Close()
}

// Close gives the connection's room back.
func (s *slot) Close() error {
	s.of.mu.Lock()
	s.of.open = slices.DeleteFunc(s.of.open, func(o *slot) bool { return o == s })
	s.of.mu.Unlock()
	s.of.change.Broadcast()
	return s.Conn.Close()
}

func (s *slot) setBusy(busy bool) {
	s.of.mu.Lock()
	s.busy = busy
	s.of.mu.Unlock()
	s.of.change.Broadcast()
}

// Write notes since when the client has not read.
func (s *slot) Write(b []byte) (int, error) {
	note := func(at time.Time) {
		s.of.mu.Lock()
		s.writing = at
		s.of.mu.Unlock()
	}
	note(time.Now())
	defer note(time.Time{})
	return s.Conn.Write(b)
}

type slotKey struct{}

// bind has a server tell its bounded listener which connections are being
// answered: from the begin of the handler until the answer is written.
func bind(server *http.Server) {
	answer := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, ok := r.Context().Value(slotKey{}).(*slot); ok {
			s.setBusy(true)
		}
		if r.ContentLength != 0 {
			// The server reads a body to its end before it takes the connection for idle. No
			// request here has one, so it need not wait for it.
			w.Header().Set("Connection", "close")
			_ = http.NewResponseController(w).SetReadDeadline(time.Now())
		}
		answer.ServeHTTP(w, r)
	})
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, slotKey{}, c)
	}
	server.ConnState = func(c net.Conn, state http.ConnState) {
		if s, ok := c.(*slot); ok && state == http.StateIdle {
			s.setBusy(false)
		}
	}
}
