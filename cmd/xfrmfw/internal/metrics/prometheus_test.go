package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/test/prometheus"
)

const shipped = "../../../../scripts/dist"

// Every expression of the dashboard and the alerts brings data, and is found to do so by
// the Prometheus that Debian has. A gateway in which nothing is wrong raises no alert;
// one with a tunnel that is down and rules that drift raises those.
func TestDashboardAndAlerts(t *testing.T) {
	t.Parallel()
	program := prometheus.Program(t, "prometheus")
	var packets atomic.Uint64
	var trouble atomic.Bool
	recorder := NewRecorder()
	// A first scrape may come before the tunnels are looked at.
	recorder.Reconciled(time.Millisecond, nil)
	of := NewTunnels(func(context.Context) (State, error) {
		n := packets.Add(10)
		tun := tunnelOf("t0000000001", []status.Rule{rule("v", status.KindVerified, n)}, status.SA{SPI: "1", Dir: "in", Packets: n, Bytes: n})
		tun.Name, tun.Configured, tun.Evidence = "office", true, "tag+policy"
		s := State{Names: []string{"office"}, Report: reportOf(tun, tunnelOf("t0000000002", nil))}
		if trouble.Load() {
			s.Report.Tunnels[0].State = status.Down
			s.Report.Differences = []string{"one"}
		}
		recorder.Reconciled(time.Millisecond, nil)
		return s, nil
	}, 1) // the second tunnel is one of the others
	of.pause = 500 * time.Millisecond
	l := loopback(t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, "v1.2.3", recorder, of) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	free := loopback(t)
	address := free.Addr().String()
	_ = free.Close()
	cmd := exec.Command(program, prometheus.Configure(t, 1, l.Addr().String(), address, shipped)...)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(output.String())
		}
	}()
	server := prometheus.Server{Address: address, Client: &http.Client{Transport: &http.Transport{DialContext: new(net.Dialer).DialContext}}}
	const patience = 3 * time.Minute
	server.Check(t, patience, prometheus.Expressions(t, shipped))
	// On a busy machine a scrape may take longer than its second, for which there is an alert too.
	raises := func(want ...string) {
		t.Helper()
		lab.Eventually(t, patience, func() error {
			names, err := server.Alerts(ctx)
			if err != nil || slices.Equal(names, want) {
				return err
			}
			return fmt.Errorf("alerts %q, want %q", names, want)
		})
	}
	raises()
	trouble.Store(true)
	recorder.Reloaded(errors.New("x"))
	raises("XfrmfwConfigRefused", "XfrmfwRulesOutOfSync", "XfrmfwTunnelDown")
}

// promtool knows the rules, and each alert is tested.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool := prometheus.Program(t, "promtool")
	for _, args := range [][]string{{"check", "rules", shipped + "/alerts.yaml"}, {"test", "rules", shipped + "/alerts_test.yaml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	rules, err := os.ReadFile(shipped + "/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(shipped + "/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) < 10 {
		t.Errorf("%d alerts", len(alerts))
	}
	for _, m := range alerts {
		// One place where it fires, and one where it does not.
		if fires := regexp.MustCompile(`alertname: ` + m[1] + `\n +eval_time: \w+\n +exp_alerts:\n +- exp_labels`); !fires.Match(tests) {
			t.Errorf("no test has %s fire", m[1])
		}
		if quiet := regexp.MustCompile(`{alertname: ` + m[1] + `, eval_time: \w+}`); !quiet.Match(tests) {
			t.Errorf("no test has %s stay quiet", m[1])
		}
	}
}
