package prometheus

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// An Expression is something that the dashboard or an alert asks for.
type Expression struct {
	// Where names the panel, variable or alert.
	Where string
	// Text is the expression in PromQL, without the variables of the dashboard and the
	// limit at its end.
	Text string
	// Labels are those that a legend or an annotation shows.
	Labels []string
}

var (
	limitOf   = regexp.MustCompile(`\s+(==|!=|>=?|<=?)\s+[0-9.]+$`)
	metricIn  = regexp.MustCompile(`\b(xfrmfw_[a-z0-9_]+)`)
	legendOf  = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)
	labelIn   = regexp.MustCompile(`\$labels\.(\w+)`)
	labelsOf  = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	variables = strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$instance", ".*", "$tunnel", ".*")
)

// Expressions returns all that the files in the folder shipped ask for.
func Expressions(t testing.TB, shipped string) []Expression {
	t.Helper()
	list := append(dashboard(t, filepath.Join(shipped, "grafana.json")), alerts(t, filepath.Join(shipped, "alerts.yaml"))...)
	if len(list) < 40 {
		t.Fatalf("only %d expressions in %s", len(list), shipped)
	}
	return list
}

func dashboard(t testing.TB, file string) []Expression {
	t.Helper()
	var d struct {
		Templating struct {
			List []struct {
				Name, Type string
				Query      any
			}
		}
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ RefID, Expr, LegendFormat string }
			Panels      []any
		}
	}
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	var list []Expression
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		query, _ := v.Query.(map[string]any)["query"].(string)
		m := labelsOf.FindStringSubmatch(query)
		if m == nil {
			t.Errorf("%s: variable %s: query %q", file, v.Name, query)
			continue
		}
		list = append(list, Expression{"variable " + v.Name, variables.Replace(m[1]), []string{m[2]}})
	}
	ids := make(map[int]bool)
	for i, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: panel %q: its number %d is another's too", file, p.Title, p.ID)
		}
		ids[p.ID] = true
		for _, q := range d.Panels[:i] {
			if a, b := p.GridPos, q.GridPos; a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s: panels %q and %q overlap", file, p.Title, q.Title)
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s: panel %q shows nothing", file, p.Title)
		}
		for _, target := range p.Targets {
			e := Expression{Where: fmt.Sprintf("panel %s (%s)", p.Title, target.RefID), Text: limitOf.ReplaceAllString(variables.Replace(target.Expr), "")}
			for _, m := range legendOf.FindAllStringSubmatch(target.LegendFormat, -1) {
				e.Labels = append(e.Labels, m[1])
			}
			if strings.Contains(e.Text, "$") {
				t.Errorf("%s: %s: a variable that the test does not know: %s", file, e.Where, e.Text)
			}
			list = append(list, e)
		}
	}
	return list
}

// alerts returns the expressions of the alerts without their limits. Of one
// that looks back in time, each metric is asked for alone: promtool tests the
// whole.
func alerts(t testing.TB, file string) []Expression {
	t.Helper()
	var f struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	data, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(data, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	var list []Expression
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			var labels []string
			for _, text := range r.Annotations {
				for _, m := range labelIn.FindAllStringSubmatch(text, -1) {
					labels = append(labels, m[1])
				}
			}
			if strings.Contains(r.Expr, " offset ") {
				for _, m := range metricIn.FindAllString(r.Expr, -1) {
					list = append(list, Expression{"alert " + r.Alert, m, labels})
				}
				continue
			}
			if !limitOf.MatchString(r.Expr) {
				t.Errorf("%s: alert %s has no limit at its end: %s", file, r.Alert, r.Expr)
			}
			list = append(list, Expression{"alert " + r.Alert, limitOf.ReplaceAllString(r.Expr, ""), labels})
		}
	}
	return list
}
