package daemon

import (
	"context"
	"sync"

	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// flows forgets flows of new tunnels beside the daemon's own work, because a large conntrack
// table takes seconds to read. One reading serves all pairs that came meanwhile.
type flows struct {
	run func(context.Context, []kernel.Pair) error

	mu      sync.Mutex
	pairs   []kernel.Pair
	running bool
	// warned is the error that was logged last, which is not repeated.
	warned string
	done   sync.WaitGroup
}

func (f *flows) forget(ctx context.Context, pairs []kernel.Pair, log logger) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pairs = append(f.pairs, pairs...)
	if f.running || len(f.pairs) == 0 {
		return
	}
	f.running = true
	f.done.Add(1)
	go func() {
		defer f.done.Done()
		for next := f.next(); next != nil && ctx.Err() == nil; next = f.next() {
			text := ""
			if err := f.run(ctx, next); err != nil {
				text = err.Error()
			}
			if text != "" && text != f.warned {
				log.warn("%s", text)
			}
			f.warned = text
		}
	}()
}

// next returns the pairs that wait, nil if there are none.
func (f *flows) next() []kernel.Pair {
	f.mu.Lock()
	defer f.mu.Unlock()
	pairs := f.pairs
	f.pairs, f.running = nil, len(pairs) > 0
	return pairs
}

// wait returns when the reading under way is done, which the end of the daemon does not end.
func (f *flows) wait() { f.done.Wait() }
