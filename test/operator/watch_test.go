package operator

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

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
