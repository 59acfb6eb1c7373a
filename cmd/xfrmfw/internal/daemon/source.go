package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// source keeps a watcher of the kernel at work, and opens another when one
// fails. A nil source notifies of nothing.
type source struct {
	name  string
	open  func() (*kernel.Watcher, error)
	dirty chan struct{}
	done  sync.WaitGroup

	mu      sync.Mutex
	watcher *kernel.Watcher // nil between two
	past    kernel.Counts
}

// reopen is the least time from one watcher to the next.
const reopen = time.Second

func newSource(name string, open func() (*kernel.Watcher, error)) *source {
	return &source{name: name, open: open, dirty: make(chan struct{}, 1)}
}

// start opens the first watcher. The source notifies of all events after its return.
func (s *source) start(ctx context.Context, log logger) error {
	w, err := s.open()
	if err != nil {
		return err
	}
	s.set(w)
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		s.run(ctx, w, log)
	}()
	return nil
}

// wait returns when the context of start is done and the watcher is closed.
func (s *source) wait() { s.done.Wait() }

// C is ready when the kernel has to be looked at.
func (s *source) C() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.dirty
}

// alive reports whether a watcher is open.
func (s *source) alive() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watcher != nil
}

// counts are the notifications of all watchers.
func (s *source) counts() kernel.Counts {
	if s == nil {
		return kernel.Counts{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.past
	if s.watcher != nil {
		sum = added(sum, s.watcher.Counts())
	}
	return sum
}

func added(a, b kernel.Counts) kernel.Counts {
	for i := range a.Events {
		a.Events[i] += b.Events[i]
	}
	a.Seen += b.Seen
	a.Lost += b.Lost
	return a
}

func (s *source) set(w *kernel.Watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watcher != nil {
		s.past = added(s.past, s.watcher.Counts())
	}
	s.watcher = w
}

func (s *source) run(ctx context.Context, w *kernel.Watcher, log logger) {
	for {
		opened := time.Now()
		err := s.follow(ctx, w)
		s.set(nil)
		w.Close()
		if ctx.Err() != nil {
			return
		}
		log.warn("%v: opened anew", err)
		// One that fails as soon as it is opened must not have us do nothing else.
		for wait := time.Until(opened.Add(reopen)); ; wait = reopen {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			if w, err = s.open(); err == nil {
				break
			}
		}
		s.set(w)
		s.tell() // of events in between
	}
}

// follow passes on the events of one watcher, until it ends.
func (s *source) follow(ctx context.Context, w *kernel.Watcher) error {
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-w.Dirty():
			s.tell()
		}
	}
}

func (s *source) tell() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}
