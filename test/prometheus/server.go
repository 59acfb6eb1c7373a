package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// Program returns the path of prometheus or promtool: the machine's, or the one that
// scripts/fetch prometheus unpacked. Without it the test is skipped, or fails if
// XFRMFW_REQUIRE asks for prometheus or the lab.
func Program(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	cache := os.Getenv("XFRMFW_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(base, "xfrmfw")
	}
	path := filepath.Join(cache, "guest/prometheus/usr/bin", name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	const missing = "no Prometheus: run scripts/fetch prometheus"
	if lab.Required("prometheus") || lab.Required("lab") {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// Configure writes a configuration that scrapes the daemon at target every so
// many seconds, and returns the arguments with which Prometheus then listens on
// address.
func Configure(t testing.TB, seconds int, target, address, shipped string) []string {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(shipped, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf(`global: {scrape_interval: %[1]ds, scrape_timeout: %[1]ds, evaluation_interval: %[1]ds}
rule_files: [%[2]q]
scrape_configs:
  - job_name: xfrmfw
    static_configs: [{targets: [%[3]q]}]
`, seconds, rules, target)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address, "--log.level=warn",
	}
}

// A Server is a Prometheus to ask.
type Server struct {
	// Address is its host and port, and Client reaches it.
	Address string
	Client  *http.Client
}

// A Sample is one series of an answer.
type Sample struct {
	Labels map[string]string
	// Value is Prometheus' text, such as 1.5 or NaN.
	Value string
}

// Query asks for an expression now.
func (s Server) Query(ctx context.Context, expression string) ([]Sample, error) {
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := s.get(ctx, "/api/v1/query?query="+url.QueryEscape(expression), &answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("query %s: %s", expression, answer.Error)
	}
	var samples []Sample
	for _, r := range answer.Data.Result {
		value, _ := r.Value[1].(string)
		samples = append(samples, Sample{r.Metric, value})
	}
	return samples, nil
}

// Alerts returns the names of the alerts that are pending or firing.
func (s Server) Alerts(ctx context.Context) ([]string, error) {
	var answer struct {
		Data struct {
			Alerts []struct{ Labels map[string]string }
		}
	}
	if err := s.get(ctx, "/api/v1/alerts", &answer); err != nil {
		return nil, err
	}
	var names []string
	for _, a := range answer.Data.Alerts {
		names = append(names, a.Labels["alertname"])
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (s Server) get(ctx context.Context, path string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Address+path, nil)
	if err != nil {
		return err
	}
	res, err := s.Client.Do(req)
	if err != nil {
		return fmt.Errorf("ask Prometheus: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
		return fmt.Errorf("ask Prometheus for %s: %s: %w", path, res.Status, err)
	}
	return nil
}

// Check asks for each expression until it brings a number, with the labels that
// are to be shown, or the time is over.
func (s Server) Check(t testing.TB, within time.Duration, list []Expression) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for _, e := range list {
		for {
			problem := s.problem(ctx, e)
			if problem == "" {
				break
			}
			if ctx.Err() != nil {
				t.Errorf("%s: %s: %s", e.Where, e.Text, problem)
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	}
}

// problem names the fault in the answer to an expression, if there is one.
func (s Server) problem(ctx context.Context, e Expression) string {
	// The last question is asked though the time is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	samples, err := s.Query(ctx, e.Text)
	if err != nil {
		return err.Error()
	}
	samples = slices.DeleteFunc(samples, func(s Sample) bool { return s.Value == "NaN" || strings.HasSuffix(s.Value, "Inf") })
	if len(samples) == 0 {
		return "no data"
	}
	for _, label := range e.Labels {
		if !slices.ContainsFunc(samples, func(s Sample) bool { return s.Labels[label] != "" }) {
			return fmt.Sprintf("no series has the label %s: %v", label, samples[0].Labels)
		}
	}
	return ""
}
