package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
)

// State is the input of the tunnels' metrics.
type State struct {
	// Report holds the tunnels with the counters of their rules and states.
	Report status.Report
	// Names are those of the configuration's entries of tunnels, of which some
	// may have no tunnel now. Empty ones are left out.
	Names []string
}

// A Source reads the state afresh. One goroutine calls it, at a scrape. It must not wait
// for the daemon's own work, and ends with ctx.
type Source func(ctx context.Context) (State, error)

const (
	// leastPause is the time between two readings, however many ask.
	leastPause = 5 * time.Second
	// share bounds the cost of readings: after one that took a second, the next
	// is not before this many seconds, up to mostPause, because the page is to
	// be of use.
	share     = 5
	mostPause = 30 * time.Second
	// defaultPatience is how long a scrape waits for a reading; it then gets
	// the last one. Prometheus gives up after 10 seconds by default.
	defaultPatience = 6 * time.Second
	// longest ends a reading that hangs.
	longest = 90 * time.Second
)

// Tunnels are the metrics that are read from the kernel and the live rules.
type Tunnels struct {
	source Source
	descs  descs

	// The next three are as their names say, but for tests.
	now             func() time.Time
	pause, patience time.Duration

	// sum is Run's own.
	sum totals
	// asked has an element if a scrape waits for a reading.
	asked chan struct{}

	mu sync.Mutex
	// most is how many tunnels have series of their own.
	most int
	// done is closed when the next reading is.
	done chan struct{}
	last reading
}

// reading is the result of a reading. Its maps are not changed any more.
type reading struct {
	// tried and at are when the last one, and the last good one, ended; took is
	// how long the last one needed.
	tried, at       time.Time
	took            time.Duration
	tries, failures uint64

	tunnels map[string]tunnel
	host    [len(hostKinds)]count
	// named maps each name of the configuration to whether a tunnel of it is up.
	named map[string]bool
	// states and guards are numbers of tunnels and guarded pairs.
	states map[status.State]int
	guards map[string]int

	ignored, differences, warnings, pending int
}

// NewTunnels returns the metrics of at most most tunnels, and the sum of all
// others. They are read while Run runs.
func NewTunnels(source Source, most int) *Tunnels {
	return &Tunnels{
		source: source, descs: newDescs(), most: most,
		now: time.Now, pause: leastPause, patience: defaultPatience,
		asked: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Limit changes how many tunnels have series of their own, from the next scrape
// on.
func (t *Tunnels) Limit(most int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.most != most {
		t.most, t.last.tried = most, time.Time{}
	}
}

// Run reads when asked, until ctx is done. It may run again after that, but not
// twice at once.
func (t *Tunnels) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.asked:
		}
		t.mu.Lock()
		last, most, fresh := t.last, t.most, t.fresh()
		t.mu.Unlock()
		if fresh {
			continue // asked while the last reading was under way
		}
		began := t.now()
		within, cancel := context.WithTimeout(ctx, longest)
		state, err := t.source(within)
		cancel()
		if err == nil {
			t.sum.fold(state.Report, most)
			last.take(state, t.sum, most)
		} else {
			last.failures++
		}
		last.tries++
		last.tried = t.now()
		last.took = last.tried.Sub(began)
		if err == nil {
			last.at = last.tried
		}
		t.mu.Lock()
		t.last = last
		close(t.done)
		t.done = make(chan struct{})
		t.mu.Unlock()
	}
}

// fresh reports whether the last reading is young enough. It is called under the lock.
func (t *Tunnels) fresh() bool {
	wait := max(t.pause, min(share*t.last.took, mostPause))
	return !t.last.tried.IsZero() && t.now().Sub(t.last.tried) < wait
}

// read returns the last reading, and if that is old, waits a little for a new
// one.
func (t *Tunnels) read() reading {
	t.mu.Lock()
	last, done, fresh := t.last, t.done, t.fresh()
	t.mu.Unlock()
	if fresh {
		return last
	}
	select {
	case t.asked <- struct{}{}:
	default: // a reading is requested already
	}
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// take fills in the consequences of a state.
func (r *reading) take(s State, sum totals, most int) {
	r.tunnels, r.host = sum.tunnels, sum.host
	r.named = make(map[string]bool)
	for _, name := range s.Names {
		if name = labelValue(name); name != "" && len(r.named) < most {
			r.named[name] = false
		}
	}
	r.states = map[status.State]int{status.Up: 0, status.Down: 0}
	for _, of := range s.Report.Tunnels {
		r.states[of.State]++
		if name := labelValue(of.Name); of.Configured && of.State == status.Up {
			if _, ok := r.named[name]; ok {
				r.named[name] = true
			}
		}
	}
	r.guards = map[string]int{"live": 0, "memory": 0, "config": 0}
	for _, g := range s.Report.Guards {
		r.guards[g.Source]++
	}
	if s.Report.Pending {
		r.pending = 1
	}
	r.ignored, r.differences, r.warnings = len(s.Report.Ignored), len(s.Report.Differences), len(s.Report.Warnings)
}
