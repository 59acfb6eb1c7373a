package status

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// The text for a person has no more lines where a peer makes more of something. The list
// of tunnels alone has a line for each.
func TestTextIsBounded(t *testing.T) {
	t.Parallel()
	site := func(i int, pairs ...[2]string) sample.Site {
		return aged(sample.Site{Reqid: uint32(i + 1), Local: "198.51.100.1", Remote: "203.0.113.7", Pairs: pairs}, 0, 5)
	}
	pair := func(i int) [2]string { return [2]string{"10.2.0.0/24", fmt.Sprintf("10.%d.%d.0/24", 100+i/250, i%250)} }
	many := func(n int) (all [][2]string) {
		for i := range n {
			all = append(all, pair(i))
		}
		return all
	}
	for _, tt := range []struct {
		name string
		in   func(n int) Input
	}{
		{"pairs of a tunnel", func(n int) Input { return inputOf(t, sample.Snapshot(hub(), site(0, many(n)...)), firewall.Input{}) }},
		{"SAs of a tunnel", func(n int) Input {
			s := site(0, pair(0))
			s.Rekeys, s.Tune = n-1, nil
			return inputOf(t, sample.Snapshot(hub(), s), firewall.Input{})
		}},
		{"ignored objects", func(n int) Input {
			s := sample.Snapshot(hub(), site(0, pair(0)))
			for i := range n {
				s.Skip(fmt.Sprint("policy ", i), "it makes no sense")
			}
			return inputOf(t, s, firewall.Input{})
		}},
		{"remembered pairs", func(n int) Input {
			var in firewall.Input
			for i := range n {
				p := pair(i + 1)
				in.Guards = append(in.Guards, guard.Guard{
					Local: netip.MustParsePrefix(p[0]), Remote: netip.MustParsePrefix(p[1]), Source: guard.FromMemory, Tunnel: "t0", Expires: now + 9,
				})
			}
			return inputOf(t, sample.Snapshot(hub(), site(0, pair(0))), in)
		}},
		{"unknown peers", func(n int) Input {
			sites := []sample.Site{site(0, pair(0))}
			for i := range n {
				sites = append(sites, site(i+1, pair(i+1)))
			}
			in := inputOf(t, sample.Snapshot(hub(), sites...), firewall.Input{Config: firewall.Config{
				Tunnels: []firewall.TunnelConfig{{Match: firewall.Match{Identity: "moon"}, Name: "moon"}},
			}})
			in.Set.Tunnels = in.Set.Tunnels[:1] // the list is not asked for
			return in
		}},
		{"warnings and differences", func(n int) Input {
			in := inputOf(t, sample.Snapshot(hub(), site(0, pair(0))), firewall.Input{})
			for i := range n {
				in.Warnings, in.Differences = append(in.Warnings, fmt.Sprint("warning ", i)), append(in.Differences, fmt.Sprint("rule ", i))
			}
			return in
		}},
		{"states without policies", func(n int) Input {
			s := sample.Snapshot(hub(), site(0, pair(0)))
			for i := range n {
				s.States = append(s.States, xfrm.State{Src: netip.MustParseAddr("203.0.113.9"), Dst: netip.MustParseAddr("198.51.100.1"), Proto: xfrm.ESP, SPI: uint32(i + 1)})
			}
			return inputOf(t, s, firewall.Input{})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lines := func(n int) int {
				var b bytes.Buffer
				if err := Build(tt.in(n)).WriteText(&b, TextOptions{}); err != nil {
					t.Fatal(err)
				}
				return strings.Count(b.String(), "\n")
			}
			if few, more := lines(40), lines(400); more > few {
				t.Errorf("%d lines for 40, %d for 400", few, more)
			}
		})
	}
}
