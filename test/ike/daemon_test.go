package ike

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// A daemon is xfrmfw's on one host, which only looks at the kernel when it is told that something changed: neither an
// audit nor a resync comes meanwhile.
type daemon struct {
	*lab.Process

	client *http.Client
}

// startDaemon starts it and waits until it has looked for the first time.
func startDaemon(t *testing.T, h *lab.Host) daemon {
	t.Helper()
	configure(t, h, `daemon: {audit: 1h, resync: 1h, metrics: "unix:/run/xfrmfw/metrics.sock"}`)
	d := daemon{h.StartXfrmfw(t, "daemon"), &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.RunDir(), "metrics.sock"))
		},
	}}}
	lab.Eventually(t, 3*lab.Patience, func() error {
		counts, err := d.counts()
		if err == nil && counts["xfrmfw_reconciles_total"] == 0 {
			err = fmt.Errorf("the daemon has not looked yet:\n%s", d.Output())
		}
		return err
	})
	return d
}

// counts are the daemon's metrics by their names; those with labels are summed up.
func (d daemon) counts() (map[string]float64, error) {
	res, err := d.client.Get("http://daemon/metrics")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	counts := make(map[string]float64)
	for line := range strings.Lines(string(page)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(name, "#") || !found {
			continue
		}
		if end := strings.LastIndex(line, "} "); end >= 0 { // a label may have spaces
			value = strings.TrimSpace(line[end+2:])
		}
		name, _, _ = strings.Cut(name, "{")
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		counts[name] += number
	}
	return counts, nil
}

// mustCounts is counts, of which there have to be those that tests ask for.
func (d daemon) mustCounts(t *testing.T) map[string]float64 {
	t.Helper()
	counts, err := d.counts()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"xfrmfw_reconciles_total", "xfrmfw_events_total", "xfrmfw_events_lost_total", "xfrmfw_hook_nudges_total"} {
		if _, ok := counts[name]; !ok {
			t.Fatalf("the daemon does not serve %s", name)
		}
	}
	return counts
}
