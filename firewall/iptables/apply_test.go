package iptables

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// host is a fake host with both families. The restores in refuse, counted from
// 1, fail, and so do all saves after as many restores as breaks says.
type host struct {
	kernels  map[string]*fake.Kernel
	restores int
	refuse   []int
	breaks   int
}

func newHost(refuse ...int) (*host, *Programs) {
	h := &host{refuse: refuse}
	h.kernels = map[string]*fake.Kernel{"4": {Fail: h.fail}, "6": {Fail: h.fail}}
	return h, &Programs{
		variant: NFT,
		families: map[xfrm.Family]program{
			xfrm.IPv4: {save: "save 4", restore: "restore 4"},
			xfrm.IPv6: {save: "save 6", restore: "restore 6"},
		},
		options: Options{Timeout: time.Minute, Wait: time.Second},
		run:     h.run,
	}
}

func (h *host) run(_ context.Context, _ time.Duration, stdin string, stdout io.Writer, path string, args ...string) (string, error) {
	verb, family, _ := strings.Cut(path, " ")
	k := h.kernels[family]
	exit := errors.New("exit status 1")
	if verb == "save" {
		if h.breaks > 0 && h.restores >= h.breaks {
			return "Permission denied (you must be root)", exit
		}
		_, err := stdout.Write(k.Save())
		return "", err
	}
	if err := k.Restore(stdin, strings.Contains(strings.Join(args, " "), "--counters")); err != nil {
		return err.Error(), exit
	}
	return "", nil
}

func (h *host) fail(string) error {
	h.restores++
	if slices.Contains(h.refuse, h.restores) {
		return errors.New("iptables-restore: line 2 failed")
	}
	return nil
}

func (h *host) print() string { return string(h.kernels["4"].Save()) + string(h.kernels["6"].Save()) }

// TestApplyStanding: the error of an apply that failed names the rules that stand, from
// the first step to the way back.
func TestApplyStanding(t *testing.T) {
	// Steps 1 to 4 stand already: mangle and filter of both families. Then four
	// more are run, in the order mangle 4, mangle 6, filter 4, filter 6.
	for _, tt := range []struct {
		name   string
		refuse []int
		breaks int
		want   Standing
		done   []string
		says   string
	}{
		{"nothing", nil, 0, 0, nil, ""},
		{"first", []int{5}, 0, Former, nil, "the former rules are in force"},
		{"second", []int{6}, 0, Former, nil, "the former rules are in force"},
		{"last", []int{8}, 0, Former, nil, "restore filter (ipv6)"},
		{"way back", []int{8, 9}, 0, Mixed, []string{"filter (ipv4)", "mangle (ipv4)", "mangle (ipv6)"}, "new rules stand in filter (ipv4), mangle (ipv4) and mangle (ipv6)"},
		{"way back, later", []int{8, 11}, 0, Mixed, []string{"mangle (ipv6)"}, "new rules stand in mangle (ipv6), former ones elsewhere"},
		{"way back, midway", []int{8, 10}, 0, Mixed, []string{"mangle (ipv4)", "mangle (ipv6)"}, "new rules stand in mangle (ipv4) and mangle (ipv6)"},
		{"no reading", []int{6}, 6, Unknown, nil, "could not be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, p := newHost(tt.refuse...)
			apply := func(tunnel string) error {
				saves, err := p.SaveAll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				change, err := plan.Make([]rules.Ruleset{accepts(xfrm.IPv4, tunnel), accepts(xfrm.IPv6, tunnel)}, saves)
				if err != nil || len(change.Steps) != 4 {
					t.Fatalf("%d steps, %v", len(change.Steps), err)
				}
				h.breaks = tt.breaks
				return p.Apply(t.Context(), change)
			}
			if err := apply("a"); err != nil {
				t.Fatal(err)
			}
			before := h.print()
			h.breaks = 0
			err := apply("b")
			t.Log(err)
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var applied *ApplyError
			if !errors.As(err, &applied) {
				t.Fatalf("got %v", err)
			}
			if applied.Standing != tt.want || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("standing %d, want %d: %v", applied.Standing, tt.want, err)
			}
			if diff := cmp.Diff(tt.done, applied.Done); diff != "" {
				t.Errorf("done (-want +got):\n%s", diff)
			}
			if same := h.print() == before; same != (tt.want == Former) {
				t.Errorf("the rules are the former ones: %v", same)
			}
		})
	}
}
