package operator

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestWatch looks at a tunnel with traffic: the rates of status --watch are those of the packets that pass.
func TestWatch(t *testing.T) {
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{})
	for _, g := range n.Gateways() {
		g.MustXfrmfw(t, "apply")
	}
	n.Alice.MustPing(t, n.Bob.Inner(lab.IPv4), 1)
	watch := n.Sun.StartXfrmfw(t, "status", "--watch=2s")
	n.Alice.Start(t, nil, "ping", "-n", "-q", "-i", "0.1", n.Bob.Inner(lab.IPv4).String())

	line := regexp.MustCompile(`(?m)^up +\S+ +(\d+) +([0-9.]+) .*`)
	var rates []float64
	lab.Eventually(t, 3*lab.Patience, func() error {
		rates = nil
		shown := line.FindAllStringSubmatch(watch.Output(), -1)
		if len(shown) < 5 {
			return fmt.Errorf("only %d prints\n%s", len(shown), watch.Output())
		}
		last, _ := strconv.Atoi(shown[len(shown)-1][1])
		for _, s := range shown {
			rate, err := strconv.ParseFloat(s[2], 64)
			if err != nil {
				t.Fatalf("%q: %v", s[0], err)
			}
			rates = append(rates, rate)
		}
		if last < 30 {
			return fmt.Errorf("only %d packets so far", last)
		}
		return nil
	})
	watch.Stop(t)
	t.Logf("\n%s", strings.TrimSpace(watch.Output()))
	busy := 0
	for _, rate := range rates {
		if rate > 15 {
			t.Errorf("%.1f packets a second, of 10", rate)
		}
		if rate > 2 {
			busy++
		}
	}
	if rates[0] != 0 || busy < 2 {
		t.Errorf("rates %v, want 0 and then about 10", rates)
	}
	if strings.Contains(watch.Output(), "\x1b") {
		t.Error("escape sequences in what is no terminal")
	}
}

// TestWatchJSON: each interval has one line, and each line is one report as status --json prints it, with the counters that
// the packets have.
func TestWatchJSON(t *testing.T) {
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{})
	for _, g := range n.Gateways() {
		g.MustXfrmfw(t, "apply")
	}
	const interval = 2 * time.Second
	watch := n.Sun.StartXfrmfw(t, "status", "--watch="+interval.String(), "--json")
	n.Alice.Start(t, nil, "ping", "-n", "-q", "-i", "0.2", n.Bob.Inner(lab.IPv4).String())
	const want = 4
	lab.Eventually(t, 3*lab.Patience, func() error {
		if got := strings.Count(watch.Output(), "\n"); got < want {
			return fmt.Errorf("only %d lines", got)
		}
		return nil
	})
	watch.Stop(t)
	type line struct {
		Schema  int       `json:"schema"`
		Time    time.Time `json:"time"`
		InSync  *bool     `json:"in_sync"`
		Tunnels []struct {
			State     string `json:"state"`
			PacketsBy struct {
				Verified int `json:"verified"`
			} `json:"packets_by"`
		} `json:"tunnels"`
	}
	var last line
	text, complete := strings.CutSuffix(watch.Output(), "\n")
	if !complete {
		t.Errorf("the last line has no end: %.200q", text[strings.LastIndex(text, "\n")+1:])
	}
	for i, one := range strings.Split(text, "\n") {
		var l line
		if err := json.Unmarshal([]byte(one), &l); err != nil { // more than one value, or less, is an error
			t.Fatalf("line %d is no report: %v: %.200s", i, err, one)
		}
		if l.Schema != 1 || l.InSync == nil || !*l.InSync || len(l.Tunnels) != 1 || l.Tunnels[0].State != "up" {
			t.Errorf("line %d: %+v", i, l)
		}
		if i > 0 && l.Time.Sub(last.Time) < interval-time.Second { // times are in whole seconds
			t.Errorf("line %d is of %v, the one before of %v: two in one interval", i, l.Time, last.Time)
		}
		if i > 0 && l.Tunnels[0].PacketsBy.Verified < last.Tunnels[0].PacketsBy.Verified {
			t.Errorf("line %d counts %+v, the one before %+v", i, l.Tunnels, last.Tunnels)
		}
		last = l
	}
	if last.Tunnels[0].PacketsBy.Verified == 0 {
		t.Error("no packet was counted")
	}
	// The output of one status has the same keys.
	var once, again map[string]any
	if err := json.Unmarshal([]byte(n.Sun.MustXfrmfw(t, "status", "--json")), &once); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text[strings.LastIndex(text, "\n")+1:]), &again); err != nil {
		t.Fatal(err)
	}
	if a, b := slices.Sorted(maps.Keys(once)), slices.Sorted(maps.Keys(again)); !slices.Equal(a, b) {
		t.Errorf("keys of status: %v\nof --watch: %v", a, b)
	}
}
