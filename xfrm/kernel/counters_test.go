package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TestCounters: the kernel's own counters are those that iptables-save prints, in
// both families and variants, of the chains that were asked for.
func TestCounters(t *testing.T) {
	netns(t)
	t.Setenv("XTABLES_LOCKFILE", t.TempDir()+"/lock")
	for _, variant := range []string{"nft", "legacy"} {
		for family, word := range map[xfrm.Family]string{xfrm.IPv4: "iptables", xfrm.IPv6: "ip6tables"} {
			t.Run(variant+" "+family.String(), func(t *testing.T) {
				program := word + "-" + variant
				if _, err := exec.LookPath(program + "-restore"); err != nil {
					lab.Lacking(t, "iptables", err.Error())
				}
				var text strings.Builder
				text.WriteString("*mangle\n:OURS-A - [0:0]\n:OURS-B - [0:0]\n:OTHER - [0:0]\n")
				for i := range 90 {
					chain := []string{"OURS-A", "OURS-B", "OTHER"}[i%3]
					fmt.Fprintf(&text, "[%d:%d] -A %s -p udp -m udp --dport %d -m policy --dir in --pol ipsec -j MARK --set-xmark 0x1/0x1 -m comment --comment words:%d/a\n", i, uint64(1)<<33+uint64(i), chain, i+1, i)
				}
				text.WriteString("[7:8] -A OURS-A -j RETURN\n[7:8] -A OURS-A -m comment --comment else -j RETURN\nCOMMIT\n")
				cmd := exec.Command(program+"-restore", "--counters")
				cmd.Stdin = strings.NewReader(text.String())
				if out, err := cmd.CombinedOutput(); err != nil {
					lab.Lacking(t, "iptables", fmt.Sprintf("%s-restore: %v: %s", program, err, out))
				}
				t.Cleanup(func() {
					cmd := exec.Command(program + "-restore")
					cmd.Stdin = strings.NewReader("*mangle\nCOMMIT\n")
					_ = cmd.Run()
				})
				saved, err := exec.Command(program+"-save", "-c", "-t", "mangle").Output()
				if err != nil {
					t.Fatal(err)
				}
				var want, got []string
				for line := range strings.Lines(string(saved)) {
					counters, rest, _ := strings.Cut(line, "] ")
					_, comment, ours := strings.Cut(rest, "words:")
					if ours && (variant == "legacy" || !strings.Contains(rest, "OTHER")) && counters != "[0:0" {
						comment, _, _ = strings.Cut(comment, " ")
						want = append(want, strings.Trim(comment, `"`)+" "+counters[1:])
					}
				}
				var counters []RuleCounter
				if variant == "nft" {
					counters, err = TableCounters(t.Context(), family, "mangle", []string{"OURS-A", "GONE", "OURS-B"}, "words:")
				} else {
					counters, err = LegacyCounters(family, "mangle", "words:")
				}
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range counters {
					if c.Packets|c.Bytes != 0 {
						got = append(got, fmt.Sprintf("%s %d:%d", strings.TrimPrefix(c.Text, "words:"), c.Packets, c.Bytes))
					}
				}
				slices.Sort(want)
				slices.Sort(got)
				// ip6tables-nft 1.8.9 ignores the counters that it is given.
				if len(want) < 60 && (variant != "nft" || family != xfrm.IPv6) {
					t.Fatalf("iptables-save prints %d rules", len(want))
				}
				if variant == "nft" && len(counters) != 60 {
					t.Errorf("%d rules were found in two chains of 30", len(counters))
				}
				if !slices.Equal(want, got) {
					t.Errorf("the kernel says\n%s\niptables-save\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			})
		}
	}
}

// TestCountersOfNothing: a table that nobody has used has no rules.
func TestCountersOfNothing(t *testing.T) {
	netns(t)
	if got, err := TableCounters(t.Context(), xfrm.IPv4, "security", []string{"OURS"}, "words:"); err != nil || len(got) > 0 {
		t.Errorf("nft: %v, %v", got, err)
	}
	if _, err := os.Stat("/proc/net/ip_tables_names"); err != nil {
		return
	}
	if got, err := LegacyCounters(xfrm.IPv4, "no such", "words:"); err != nil || len(got) > 0 {
		t.Errorf("legacy: %v, %v", got, err)
	}
}
