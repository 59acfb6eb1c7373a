package metrics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// clock is a time that only tests move.
type clock struct{ nanoseconds atomic.Int64 }

func (c *clock) now() time.Time         { return time.Unix(1_800_000_000, c.nanoseconds.Load()) }
func (c *clock) pass(d time.Duration)   { c.nanoseconds.Add(int64(d)) }
func (t *Tunnels) at(c *clock) *Tunnels { t.now = c.now; return t }

// run runs t beside the test.
func run(t *testing.T, of *Tunnels) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { of.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// scrape returns the page and its metrics, by name.
func scrape(t *testing.T, r *Recorder, of *Tunnels) (string, map[string]*dto.MetricFamily) {
	t.Helper()
	h, err := handler("v1.2.3", r, of)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	page := w.Body.String()
	if w.Code != http.StatusOK || !utf8.ValidString(page) {
		t.Fatalf("status %d, UTF-8 %v: %.500s", w.Code, utf8.ValidString(page), page)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatalf("%v:\n%.2000s", err, page)
	}
	return page, families
}

// values renders the series of a metric as "label=value,... number".
func values(f *dto.MetricFamily) []string {
	var list []string
	for _, m := range f.GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetName()+"="+l.GetValue())
		}
		slices.Sort(labels)
		list = append(list, fmt.Sprintf("%s %v", strings.Join(labels, ","), m.GetGauge().GetValue()+m.GetCounter().GetValue()))
	}
	slices.Sort(list)
	return list
}

// still is a source of one state.
func still(s State) Source { return func(context.Context) (State, error) { return s, nil } }

func TestMetrics(t *testing.T) {
	t.Parallel()
	c := &clock{}
	n := uint64(0)
	office := func() status.Tunnel {
		return status.Tunnel{
			ID: "t0000000001", Name: "office", Configured: true, State: status.Up, Evidence: "tag+policy", Connection: "peers-word", PeerID: "peers-word",
			User: "peers-word", VirtualIPs: []string{"peers-word"}, Reason: "peers-word",
			SAs:   []status.SA{{SPI: "0x1", Dir: "in", Packets: n, Bytes: 90 * n}, {SPI: "0x2", Dir: "out", Packets: 2 * n, Bytes: 180 * n}},
			Rules: []status.Rule{rule("a", status.KindVerified, n), rule("b", status.KindPolicyOnly, 3*n), rule("c", status.DropLeak, 4*n)},
		}
	}
	of := NewTunnels(func(context.Context) (State, error) {
		return State{Names: []string{"office", "gone", ""}, Report: status.Report{
			Tunnels:     []status.Tunnel{office(), {ID: "t0000000002", Name: "peers-word", Connection: "peers-word", State: status.Down, Evidence: "none"}},
			SharedRules: []status.Rule{rule("d", status.DropSpoof, 5*n), rule("e", status.NotedStrayTag, 6*n)},
			Guards:      []status.Guard{{Source: "live"}, {Source: "memory"}, {Source: "live"}},
			Ignored:     []xfrm.Ignored{{}}, Differences: []string{"a", "b"}, Warnings: []string{"peers-word"}, Pending: true,
		}}, nil
	}, 10).at(c)
	run(t, of)
	scrape(t, NewRecorder(), of)
	n = 7
	c.pass(time.Minute)
	page, families := scrape(t, NewRecorder(), of)
	for name, want := range map[string]string{
		"xfrmfw_tunnel_up":               "name=,tunnel=t0000000002 0; name=office,tunnel=t0000000001 1",
		"xfrmfw_tunnel_info":             "evidence=none,name=,tunnel=t0000000002 1; evidence=tag+policy,name=office,tunnel=t0000000001 1",
		"xfrmfw_named_tunnel_up":         "name=gone 0; name=office 1",
		"xfrmfw_tunnels":                 "state=down 1; state=up 1",
		"xfrmfw_guards":                  "source=config 0; source=live 2; source=memory 1",
		"xfrmfw_ignored_objects":         " 1",
		"xfrmfw_rules_out_of_sync":       " 2",
		"xfrmfw_warnings":                " 1",
		"xfrmfw_confirm_pending":         " 1",
		"xfrmfw_noted_packets_total":     "case=stray_tag 42; case=unknown 0",
		"xfrmfw_read_timestamp_seconds":  " 1.80000006e+09",
		"xfrmfw_reads_total":             " 2",
		"xfrmfw_read_failures_total":     " 0",
		"xfrmfw_dropped_packets_total":   "case=crossed 0; case=inject 0; case=leak 28; case=lockdown 0; case=restricted 0; case=spoof 35; case=unconfirmed 0",
		"xfrmfw_dropped_bytes_total":     "case=crossed 0; case=inject 0; case=leak 2800; case=lockdown 0; case=restricted 0; case=spoof 3500; case=unconfirmed 0",
		"xfrmfw_tunnel_sas":              "direction=in,name=,tunnel=t0000000002 0; direction=in,name=office,tunnel=t0000000001 1; direction=out,name=,tunnel=t0000000002 0; direction=out,name=office,tunnel=t0000000001 1",
		"xfrmfw_tunnel_sa_packets_total": "direction=in,name=,tunnel=t0000000002 0; direction=in,name=office,tunnel=t0000000001 7; direction=out,name=,tunnel=t0000000002 0; direction=out,name=office,tunnel=t0000000001 14",
		"xfrmfw_tunnel_sa_bytes_total":   "direction=in,name=,tunnel=t0000000002 0; direction=in,name=office,tunnel=t0000000001 630; direction=out,name=,tunnel=t0000000002 0; direction=out,name=office,tunnel=t0000000001 1260",
	} {
		if got := strings.Join(values(families[name]), "; "); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
	for _, want := range []string{
		`xfrmfw_tunnel_received_packets_total{evidence="policy_only",name="office",tunnel="t0000000001"} 21`,
		`xfrmfw_tunnel_received_bytes_total{evidence="verified",name="office",tunnel="t0000000001"} 700`,
		`xfrmfw_build_info{goversion="go`, `version="v1.2.3"} 1`, "process_start_time_seconds ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(page, "peers-word") {
		t.Error("what a peer chose is served")
	}
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "xfrmfw_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// However many ask, and however often, the kernel is read once in a while.
func TestScrapesAreBounded(t *testing.T) {
	t.Parallel()
	c := &clock{}
	var reads, at atomic.Int64
	of := NewTunnels(func(context.Context) (State, error) {
		if at.Add(1) > 1 {
			t.Error("two readings at once")
		}
		defer at.Add(-1)
		reads.Add(1)
		c.pass(2 * time.Second) // the cost of a reading
		return State{}, nil
	}, 10).at(c)
	run(t, of)
	burst := func() {
		var all sync.WaitGroup
		for range 50 {
			all.Add(1)
			go func() { defer all.Done(); of.read() }()
		}
		all.Wait()
	}
	for range 10 {
		burst()
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("%d readings at one time", n)
	}
	c.pass(share*2*time.Second - time.Second)
	burst()
	if n := reads.Load(); n != 1 {
		t.Errorf("%d readings within %d times what one costs", n, share)
	}
	c.pass(2 * time.Second)
	burst()
	if n := reads.Load(); n != 2 {
		t.Errorf("%d readings in two intervals", n)
	}
}

// Nor is the page made for each request.
func TestPagesAreBounded(t *testing.T) {
	t.Parallel()
	c := &clock{}
	var made atomic.Int64
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "made"}, func() float64 { return float64(made.Add(1)) }))
	p := &page{from: registry, now: c.now}
	ask := func() {
		var all sync.WaitGroup
		for range 50 {
			all.Add(1)
			go func() {
				defer all.Done()
				if text, err := p.read(); err != nil || !strings.Contains(string(text), "made ") {
					t.Errorf("%q, %v", text, err)
				}
			}()
		}
		all.Wait()
	}
	ask()
	c.pass(pageAge - 1)
	ask()
	if n := made.Load(); n != 1 {
		t.Errorf("made %d times within its age", n)
	}
	c.pass(1)
	ask()
	if n := made.Load(); n != 2 {
		t.Errorf("made %d times in two", n)
	}
}

// A reading that hangs or fails leaves the former one there, and says how old it is.
func TestScrapeOfAHangingSource(t *testing.T) {
	t.Parallel()
	c := &clock{}
	var step atomic.Int32
	of := NewTunnels(func(ctx context.Context) (State, error) {
		switch step.Load() {
		case 0:
			return State{Report: reportOf(tunnelOf("t0000000001", nil))}, nil
		case 1:
			return State{}, errors.New("no iptables")
		}
		<-ctx.Done()
		return State{}, ctx.Err()
	}, 10).at(c)
	of.patience = time.Minute
	run(t, of)
	r := of.read()
	if len(r.tunnels) != 1 || r.failures != 0 {
		t.Fatalf("the first reading is %+v", r)
	}
	step.Store(1)
	c.pass(time.Hour)
	r = of.read()
	if len(r.tunnels) != 1 || r.failures != 1 || r.tries != 2 || !r.at.Equal(time.Unix(1_800_000_000, 0)) {
		t.Errorf("after a failure: %+v", r)
	}
	step.Store(2)
	c.pass(time.Hour)
	of.patience = 50 * time.Millisecond
	begun := time.Now()
	r = of.read()
	if took := time.Since(begun); len(r.tunnels) != 1 || r.tries != 2 || took > 20*time.Second {
		t.Errorf("while it hangs: %+v, after %s", r, took)
	}
}

// Nobody reads: a daemon that ends, or has not begun.
func TestScrapeWithoutRun(t *testing.T) {
	t.Parallel()
	of := NewTunnels(still(State{}), 10)
	of.patience = 10 * time.Millisecond
	_, families := scrape(t, NewRecorder(), of)
	if got := values(families["xfrmfw_read_timestamp_seconds"]); !slices.Equal(got, []string{" 0"}) {
		t.Errorf("read at %q", got)
	}
	if families["xfrmfw_tunnels"] != nil {
		t.Error("tunnels that nobody read")
	}
}

// By any names, the page is the same as without them.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	hostile := "x\"} 1\nxfrmfw_fake 1\n#\x00\xff\u202e" + strings.Repeat("\u4e16", 30_000)
	var tunnels []status.Tunnel
	for i := range 20 {
		tunnels = append(tunnels, status.Tunnel{ID: hostile[i:], Name: hostile, Configured: i%2 == 0, State: status.State("up"), Evidence: "none"})
	}
	of := NewTunnels(still(State{Report: reportOf(tunnels...), Names: []string{hostile}}), 3)
	run(t, of)
	page, families := scrape(t, NewRecorder(), of)
	if _, ok := families["xfrmfw_fake"]; ok || len(page) > 64<<10 {
		t.Errorf("a metric of the peer's own, or %d bytes", len(page))
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.ContainsAny(l.GetValue(), "\"\n\\{}") || len(l.GetValue()) > 200 {
					t.Errorf("%s: label %q", f.GetName(), l.GetValue())
				}
			}
		}
	}
}

// Ten thousand tunnels are a page of a thousand.
func TestPageIsBounded(t *testing.T) {
	t.Parallel()
	var tunnels []status.Tunnel
	var names []string
	for i := range 10_000 {
		tunnels = append(tunnels, tunnelOf(fmt.Sprintf("t%010d", i), nil))
		names = append(names, fmt.Sprintf("site-%d", i))
	}
	of := NewTunnels(still(State{Report: reportOf(tunnels...), Names: names}), 1000)
	run(t, of)
	page, families := scrape(t, NewRecorder(), of)
	series := 0
	for _, f := range families {
		series += len(f.GetMetric())
	}
	if n := len(families["xfrmfw_tunnel_up"].GetMetric()); n != 1000 {
		t.Errorf("%d tunnels", n)
	}
	if n := len(families["xfrmfw_named_tunnel_up"].GetMetric()); n != 1000 {
		t.Errorf("%d names", n)
	}
	if got := values(families["xfrmfw_tunnels"]); !slices.Contains(got, "state=up 10000") {
		t.Errorf("tunnels %q", got)
	}
	if series > 20_000 || len(page) > 3<<20 {
		t.Errorf("%d series, %d bytes", series, len(page))
	}
	t.Logf("%d series, %d bytes", series, len(page))
	of.Limit(5)
	if _, families = scrape(t, NewRecorder(), of); len(families["xfrmfw_tunnel_up"].GetMetric()) != 5 {
		t.Errorf("%d tunnels of 5", len(families["xfrmfw_tunnel_up"].GetMetric()))
	}
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	r := NewRecorder()
	r.Reconciled(30*time.Millisecond, nil)
	r.Reconciled(40*time.Second, errors.New("x"))
	r.Repaired()
	r.Nudged()
	r.PeerRefused()
	r.Reloaded(errors.New("x"))
	first := Notifications{Lost: 2}
	first.Events[wire.StateAdded] = 5
	r.Follow(func() Notifications { return first })
	first.Events[wire.StateAdded]++
	second := Notifications{Lost: 1}
	r.Follow(func() Notifications { return second })
	second.Events[wire.Acquire] = 3
	of := NewTunnels(still(State{}), 10)
	run(t, of)
	page, families := scrape(t, r, of)
	for name, want := range map[string]string{
		"xfrmfw_reconciles_total":              " 2",
		"xfrmfw_reconcile_failures_total":      " 1",
		"xfrmfw_drift_repaired_total":          " 1",
		"xfrmfw_hook_nudges_total":             " 1",
		"xfrmfw_socket_peers_refused_total":    " 1",
		"xfrmfw_config_reloads_total":          " 1",
		"xfrmfw_config_reload_failures_total":  " 1",
		"xfrmfw_config_last_reload_successful": " 0",
		"xfrmfw_events_lost_total":             " 3",
	} {
		if got := strings.Join(values(families[name]), "; "); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	events := values(families["xfrmfw_events_total"])
	if len(events) != int(wire.Events) || !slices.Contains(events, "type=state-added 6") || !slices.Contains(events, "type=acquire 3") {
		t.Errorf("events %q", events)
	}
	for _, want := range []string{`xfrmfw_reconcile_duration_seconds_bucket{le="0.05"} 1`, "xfrmfw_reconcile_duration_seconds_count 2"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s", want)
		}
	}
	if got := families["xfrmfw_reconcile_last_success_timestamp_seconds"].GetMetric()[0].GetGauge().GetValue(); time.Since(time.Unix(int64(got), 0)) > time.Hour {
		t.Errorf("last success %v", got)
	}
}

func TestKernelErrors(t *testing.T) {
	t.Parallel()
	got := make(map[string]float64)
	for _, e := range readKernelErrors(strings.NewReader("XfrmInError             \t7\nXfrmInError 8\nXfrmOutPolBlock\t0\nXfrmNew{\" 1\nOther 1\nXfrmInHdrError -1\nXfrmX\n\nXfrmFwdHdrError 18446744073709551615")) {
		got[e.name] = e.value
	}
	if want := map[string]float64{"XfrmInError": 7, "XfrmOutPolBlock": 0, "XfrmFwdHdrError": 1 << 64}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
