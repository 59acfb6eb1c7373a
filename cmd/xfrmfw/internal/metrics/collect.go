package metrics

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
)

// descs describes the series of Tunnels.
type descs struct {
	up, info, states                      *prometheus.Desc
	statePackets, stateBytes              *prometheus.Desc
	packets, bytes                        *prometheus.Desc
	named, tunnels, guards                *prometheus.Desc
	dropped, droppedBytes, noted          *prometheus.Desc
	ignored, differences, warned, pending *prometheus.Desc
	at, took, tries, failures             *prometheus.Desc
}

func newDescs() descs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return descs{
		up:     desc("xfrmfw_tunnel_up", "1 if the tunnel has states in both directions.", "tunnel", "name"),
		info:   desc("xfrmfw_tunnel_info", "Always 1; tells the evidence that a packet came out of the tunnel.", "tunnel", "name", "evidence"),
		states: desc("xfrmfw_tunnel_sas", "States (SAs) of the tunnel.", "tunnel", "name", "direction"),
		statePackets: desc("xfrmfw_tunnel_sa_packets_total", "Packets that the kernel counted in the tunnel's states.",
			"tunnel", "name", "direction"),
		stateBytes: desc("xfrmfw_tunnel_sa_bytes_total", "Bytes that the kernel counted in the tunnel's states.",
			"tunnel", "name", "direction"),
		packets: desc("xfrmfw_tunnel_received_packets_total", "Packets out of the tunnel, by evidence.",
			"tunnel", "name", "evidence"),
		bytes: desc("xfrmfw_tunnel_received_bytes_total", "Bytes out of the tunnel, by evidence.",
			"tunnel", "name", "evidence"),
		named:        desc("xfrmfw_named_tunnel_up", "1 if a tunnel of that name in the configuration is up, 0 also if there is none.", "name"),
		tunnels:      desc("xfrmfw_tunnels", "All tunnels, by their state.", "state"),
		guards:       desc("xfrmfw_guards", "Pairs of networks between which nothing passes in clear.", "source"),
		dropped:      desc("xfrmfw_dropped_packets_total", "Packets that were dropped, by the case of the verdict table.", "case"),
		droppedBytes: desc("xfrmfw_dropped_bytes_total", "Bytes that were dropped, by the case of the verdict table.", "case"),
		noted:        desc("xfrmfw_noted_packets_total", "Packets that were not dropped, but are worth a look.", "case"),
		ignored:      desc("xfrmfw_ignored_objects", "States and policies of the kernel for which no rule is made."),
		pending:      desc("xfrmfw_confirm_pending", "Whether rules of apply --confirm wait for their confirmation: 1 or 0."),
		differences:  desc("xfrmfw_rules_out_of_sync", "Differences between the live rules and the wanted ones."),
		warned:       desc("xfrmfw_warnings", "Warnings that xfrmfw status shows."),
		at:           desc("xfrmfw_read_timestamp_seconds", "When the tunnels, rules and counters served here were read; 0 is never."),
		took:         desc("xfrmfw_read_duration_seconds", "How long it took to read them the last time."),
		tries:        desc("xfrmfw_reads_total", "Times that they were read, failures included."),
		failures:     desc("xfrmfw_read_failures_total", "Failed readings of tunnels and counters: the figures are then older."),
	}
}

// Describe implements prometheus.Collector.
func (t *Tunnels) Describe(to chan<- *prometheus.Desc) {
	d := t.descs
	for _, desc := range []*prometheus.Desc{
		d.up, d.info, d.states, d.statePackets, d.stateBytes, d.packets, d.bytes, d.named, d.tunnels, d.guards,
		d.dropped, d.droppedBytes, d.noted, d.ignored, d.differences, d.warned, d.pending, d.at, d.took, d.tries, d.failures,
	} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (t *Tunnels) Collect(to chan<- prometheus.Metric) {
	d, r := t.descs, t.read()
	s := sink{to}
	s.gauge(d.at, seconds(r.at))
	s.gauge(d.took, r.took.Seconds())
	s.counter(d.tries, r.tries)
	s.counter(d.failures, r.failures)
	if r.at.IsZero() {
		return
	}
	s.gauge(d.ignored, float64(r.ignored))
	s.gauge(d.differences, float64(r.differences))
	s.gauge(d.pending, float64(r.pending))
	s.gauge(d.warned, float64(r.warnings))
	for state, n := range r.states {
		s.gauge(d.tunnels, float64(n), string(state))
	}
	for source, n := range r.guards {
		s.gauge(d.guards, float64(n), source)
	}
	for name, up := range r.named {
		s.gauge(d.named, truth(up), name)
	}
	for i, kind := range hostKinds {
		switch kind {
		case status.NotedStrayTag, status.NotedUnknown:
			s.counter(d.noted, r.host[i].packets, string(kind))
		default:
			name := strings.TrimPrefix(string(kind), "dropped_") // as status has it
			s.counter(d.dropped, r.host[i].packets, name)
			s.counter(d.droppedBytes, r.host[i].bytes, name)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.tunnels)) {
		t.collect(s, id, r.tunnels[id])
	}
}

// collect serves one tunnel, or the sum of the others.
func (t *Tunnels) collect(s sink, id string, of tunnel) {
	d := t.descs
	if id != other {
		id = labelValue(id)
		s.gauge(d.up, truth(of.up), id, of.name)
		s.gauge(d.info, 1, id, of.name, of.evidence)
	}
	s.gauge(d.states, float64(of.statesIn), id, of.name, "in")
	s.gauge(d.states, float64(of.statesOut), id, of.name, "out")
	s.counter(d.statePackets, of.in.packets, id, of.name, "in")
	s.counter(d.statePackets, of.out.packets, id, of.name, "out")
	s.counter(d.stateBytes, of.in.bytes, id, of.name, "in")
	s.counter(d.stateBytes, of.out.bytes, id, of.name, "out")
	for i, kind := range evidenceKinds {
		s.counter(d.packets, of.by[i].packets, id, of.name, string(kind))
		s.counter(d.bytes, of.by[i].bytes, id, of.name, string(kind))
	}
}

// sink makes metrics. The labels are of our own making, so none can fail.
type sink struct{ to chan<- prometheus.Metric }

func (s sink) gauge(d *prometheus.Desc, value float64, labels ...string) {
	s.to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (s sink) counter(d *prometheus.Desc, value uint64, labels ...string) {
	s.to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a moment as Prometheus counts them; 0 for none.
func seconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}
