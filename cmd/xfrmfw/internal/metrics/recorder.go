package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// Notifications counts the kernel's notifications, as kernel.Counts has them.
type Notifications struct {
	Events [wire.Events]uint64
	Lost   uint64
}

// A Recorder counts the daemon's work. All of its methods may be called at
// any time, from anywhere, and none waits.
type Recorder struct {
	durations               prometheus.Histogram
	reconciles, failures    prometheus.Counter
	lastSuccess, interval   prometheus.Gauge
	repairs                 prometheus.Counter
	nudges, refused         prometheus.Counter
	reloads, reloadFailures prometheus.Counter
	reloaded                prometheus.Gauge
	events                  *prometheus.Desc
	lost                    *prometheus.Desc

	mu sync.Mutex
	// past sums up the sources of notifications that are no more, current is
	// the one in use.
	past    Notifications
	current func() Notifications
}

// NewRecorder returns a Recorder that has seen nothing yet.
func NewRecorder() *Recorder {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	r := &Recorder{
		durations: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "xfrmfw_reconcile_duration_seconds",
			Help: "How long it took to read the kernel and to make the rules right.",
			// From a gateway of a few tunnels to one of ten thousand on a small machine.
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		reconciles:     counter("xfrmfw_reconciles_total", "Times that the rules were brought in line with the kernel, or were found to be, failures included."),
		failures:       counter("xfrmfw_reconcile_failures_total", "Reconciles that failed: the rules are then the former ones."),
		lastSuccess:    gauge("xfrmfw_reconcile_last_success_timestamp_seconds", "When the rules were last known to be right; 0 is never."),
		interval:       gauge("xfrmfw_reconcile_interval_seconds", "How long the daemon waits at most until the next reconcile, if nothing happens."),
		repairs:        counter("xfrmfw_drift_repaired_total", "Times that rules which others had removed, changed or moved were put back."),
		nudges:         counter("xfrmfw_hook_nudges_total", "Times that an IKE daemon's hook told of a change."),
		refused:        counter("xfrmfw_socket_peers_refused_total", "Connections to the daemon's socket that were refused."),
		reloads:        counter("xfrmfw_config_reloads_total", "Times that the configuration was to be read again, failures included."),
		reloadFailures: counter("xfrmfw_config_reload_failures_total", "Times that a new configuration was refused, and the former one stayed."),
		reloaded:       gauge("xfrmfw_config_last_reload_successful", "1 if the configuration in force is the one that was last asked for."),
		events:         prometheus.NewDesc("xfrmfw_events_total", "The kernel's notifications about states and policies.", []string{"type"}, nil),
		lost:           prometheus.NewDesc("xfrmfw_events_lost_total", "Times that the kernel had to drop notifications (ENOBUFS), an unknown number each.", nil, nil),
	}
	r.reloaded.Set(1)
	return r
}

// Reconciled counts a reconcile and how long it took. The error is that of the
// reconcile, nil if the rules are right now.
func (r *Recorder) Reconciled(took time.Duration, err error) {
	r.reconciles.Inc()
	r.durations.Observe(took.Seconds())
	if err != nil {
		r.failures.Inc()
		return
	}
	r.lastSuccess.SetToCurrentTime()
}

// Waits sets the longest time until the next reconcile.
func (r *Recorder) Waits(most time.Duration) { r.interval.Set(most.Seconds()) }

// Repaired counts a repair of rules that another program changed, while the kernel's
// states and policies stayed.
func (r *Recorder) Repaired() { r.repairs.Inc() }

// Nudged counts a hook that told of a change.
func (r *Recorder) Nudged() { r.nudges.Inc() }

// PeerRefused counts a connection that the daemon's socket refused.
func (r *Recorder) PeerRefused() { r.refused.Inc() }

// Reloaded counts that the configuration was read again.
func (r *Recorder) Reloaded(err error) {
	r.reloads.Inc()
	if err != nil {
		r.reloadFailures.Inc()
		r.reloaded.Set(0)
		return
	}
	r.reloaded.Set(1)
}

// Follow takes the counts of the kernel's notifications from a source, such as
// a new kernel.Watcher, in place of the former one. The former counts are kept.
func (r *Recorder) Follow(source func() Notifications) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.past = r.notifications()
	r.current = source
}

// notifications is called under the lock.
func (r *Recorder) notifications() Notifications {
	sum := r.past
	if r.current == nil {
		return sum
	}
	now := r.current()
	sum.Lost += now.Lost
	for i, n := range now.Events {
		sum.Events[i] += n
	}
	return sum
}

// own are the metrics that keep their own value.
func (r *Recorder) own() []prometheus.Collector {
	return []prometheus.Collector{
		r.durations, r.reconciles, r.failures, r.lastSuccess, r.interval, r.repairs, r.nudges, r.refused, r.reloads, r.reloadFailures, r.reloaded,
	}
}

// Describe implements prometheus.Collector.
func (r *Recorder) Describe(to chan<- *prometheus.Desc) {
	for _, m := range r.own() {
		m.Describe(to)
	}
	to <- r.events
	to <- r.lost
}

// Collect implements prometheus.Collector.
func (r *Recorder) Collect(to chan<- prometheus.Metric) {
	for _, m := range r.own() {
		m.Collect(to)
	}
	r.mu.Lock()
	seen := r.notifications()
	r.mu.Unlock()
	to <- prometheus.MustNewConstMetric(r.lost, prometheus.CounterValue, float64(seen.Lost))
	for e := range wire.Events {
		to <- prometheus.MustNewConstMetric(r.events, prometheus.CounterValue, float64(seen.Events[e]), e.String())
	}
}
