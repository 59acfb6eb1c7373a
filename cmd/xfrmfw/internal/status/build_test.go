package status

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// With the real compiler, every state is served by rules of its own tunnel and
// shared ones, all of which the report lists, with the counters that they have.
func TestBuildCompiled(t *testing.T) {
	t.Parallel()
	in := small(t)
	live := Build(in)
	in.Live = nil
	compiled := Build(in)

	for name, r := range map[string]Report{"live": live, "compiled": compiled} {
		order := func(a, b Rule) int {
			if c := strings.Compare(a.Family, b.Family); c != 0 {
				return c
			}
			return a.Table.Order() - b.Table.Order()
		}
		if !slices.IsSortedFunc(r.SharedRules, order) {
			t.Errorf("%s: the shared rules are not in the order of tables", name)
		}
	}
	shared := make(map[string]Rule)
	for _, r := range live.SharedRules {
		shared[r.ID] = r
	}
	for i, tun := range live.Tunnels {
		own := make(map[string]Rule)
		for _, r := range tun.Rules {
			own[r.ID] = r
		}
		for _, sa := range tun.SAs {
			var purposes []string
			for _, id := range sa.Rules {
				r, isOwn := own[id]
				if s, ok := shared[id]; ok {
					r = s
				} else if !isOwn {
					t.Errorf("%s state %s: rule %s is not listed", tun.ID, sa.SPI, id)
				}
				purposes = append(purposes, string(r.Purpose))
				if strings.HasPrefix(string(r.Purpose), "guard-") || r.Purpose == "reject" {
					t.Errorf("%s state %s: its traffic never meets rule %s: %s", tun.ID, sa.SPI, id, r.Rule)
				}
				if other := map[string]string{"in": "out", "out": "in"}[sa.Dir]; strings.Contains(r.Rule, "--dir "+other) {
					t.Errorf("%s state %s: it is an %sbound one, and rule %s is for those of the other direction: %s", tun.ID, sa.SPI, sa.Dir, id, r.Rule)
				}
				for part, dir := range map[string]string{"MSS-IN": "in", "MSS-OUT": "out", "SVC-I": "in", "SVC-O": "out", "SVC-C": "out"} {
					if strings.HasPrefix(r.Chain, rules.ChainPrefix+part) && dir != sa.Dir {
						t.Errorf("%s state %s: it is an %sbound one, and has a rule of chain %s", tun.ID, sa.SPI, sa.Dir, r.Chain)
					}
				}
			}
			want := []string{"accept-out", "nat-exempt", "open"}
			if sa.Dir == "in" {
				want = []string{"verified", "dispatch", "tag", "open", "accept-in"}
			}
			if tun.Name == "office" {
				want = append(want, "mss", "service", "restricted", "log")
			}
			for _, p := range want {
				if !slices.Contains(purposes, p) {
					t.Errorf("%s state %s %s: no %s among its rules, but %q", tun.ID, sa.Dir, sa.SPI, p, purposes)
				}
			}
		}
		var sum PacketsBy
		for _, r := range tun.Rules {
			switch r.Purpose {
			case "verified", "related", "ipcomp":
				sum.Verified += r.Packets
			case "unconfirmed":
				sum.Unconfirmed += r.Packets
			case "policy-only":
				sum.PolicyOnly += r.Packets
			}
		}
		if tun.PacketsBy != sum || sum.Total() == 0 {
			t.Errorf("%s: packets_by %+v, want %+v", tun.ID, tun.PacketsBy, sum)
		}
		if diff := cmp.Diff(idsOf(compiled.Tunnels[i].Rules), idsOf(tun.Rules)); diff != "" {
			t.Errorf("%s: rules of the snapshot and live ones (-snapshot +live):\n%s", tun.ID, diff)
		}
		if diff := cmp.Diff(compiled.Tunnels[i].SAs, tun.SAs); diff != "" {
			t.Errorf("%s: states beside the snapshot and live ones (-snapshot +live):\n%s", tun.ID, diff)
		}
	}
	checkWidth(t, textOf(t, live, TextOptions{Verbose: true}))
}

func idsOf(rules []Rule) []string {
	var ids []string
	for _, r := range rules {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	return ids
}

// A rule of a tunnel that is gone, one that someone wrote into a chain of ours, and one
// that does not stand.
func TestBuildDrift(t *testing.T) {
	t.Parallel()
	in := small(t)
	before := Build(in).Drops.Leak
	chains := in.Live[xfrm.IPv4].Tables[1].Chains
	chains[1].Rules = append(chains[1].Rules,
		live.Rule{Raw: "-j DROP", Target: "DROP", ID: "AAAAAAAAAAAA", Purpose: "leak", Tunnel: "t0000000000", Packets: 3, Bytes: 252},
		live.Rule{Raw: "-j LOG", Target: "LOG", ID: "BBBBBBBBBBBB", Purpose: "leak", Packets: 5},
		live.Rule{Raw: "-s 192.0.2.1/32 -j ACCEPT", Target: "ACCEPT"},
	)
	var lost string
	for i, c := range chains {
		if c.Name == "XFRMFW-TAG" {
			lost, chains[i].Rules = c.Rules[0].ID, nil
		}
	}
	r := Build(in)
	if want := (Counter{before.Packets + 3, before.Bytes + 252}); r.Drops.Leak != want {
		t.Errorf("leak %+v, want %+v: the dropping rule's 3 packets and not those of what logs", r.Drops.Leak, want)
	}
	ids := idsOf(r.SharedRules)
	for _, id := range []string{"AAAAAAAAAAAA", "BBBBBBBBBBBB", ""} {
		if !slices.Contains(ids, id) {
			t.Errorf("rule %q is not listed", id)
		}
	}
	for _, tun := range r.Tunnels {
		for _, sa := range tun.SAs {
			if slices.Contains(sa.Rules, lost) || slices.Contains(sa.Rules, "") {
				t.Errorf("state %s is served by rules that don't stand: %q", sa.SPI, sa.Rules)
			}
		}
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	r := Build(small(t))
	tests := []struct {
		words []string
		want  string // reqids
	}{
		{nil, "3 1 2 4"},
		{[]string{"office"}, "1"},
		{[]string{"office-v4"}, "1"},
		{[]string{"alice@example.org", "3"}, "3 2"},
		{[]string{"203.0.113.0/24"}, "1 2"},
		{[]string{"2001:DB8:ffff:4321:8765:cba9:0fed:2222"}, "4"},
		{[]string{r.Tunnels[0].ID}, fmt.Sprint(r.Tunnels[0].Reqid)},
		{[]string{"office", "nowhere"}, `no tunnel is named nowhere: give an ID, name, reqid or peer address that status without arguments lists`},
		{[]string{""}, `no tunnel is named "": give an ID, name, reqid or peer address that status without arguments lists`},
		{[]string{"0"}, `no tunnel is named 0: give an ID, name, reqid or peer address that status without arguments lists`},
	}
	for _, tt := range tests {
		selected, err := r.Select(tt.words)
		var got []string
		for _, t := range selected.Tunnels {
			got = append(got, fmt.Sprint(t.Reqid))
		}
		if err != nil {
			got = []string{err.Error()}
		}
		want := strings.Fields(tt.want)
		if err == nil && tt.words == nil {
			slices.Sort(want)
			slices.Sort(got)
		}
		slices.Sort(got)
		slices.Sort(want)
		if err != nil {
			want = []string{tt.want}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.words, diff)
		}
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ got, want string }{
		{size(0), "0 B"}, {size(1023), "1023 B"}, {size(1024), "1.0 KiB"}, {size(1023 * 1024), "1.0 MiB"}, {size(5 << 30), "5.0 GiB"}, {size(1<<64 - 1), "16.0 EiB"},
		{count(0), "0"}, {count(99_999_999), "99999999"}, {count(100_000_000), "100.0M"}, {count(1<<64 - 1), "18446.7P"},
		{duration(-5), "0s"}, {duration(59), "59s"}, {duration(61), "1m1s"}, {duration(3600), "1h0m"}, {duration(90061), "1d1h"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		in := large(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Build(in)
			}
		})
		r := Build(in)
		b.Run(fmt.Sprint(n, "/text"), func(b *testing.B) {
			for b.Loop() {
				_ = r.WriteText(io.Discard, TextOptions{All: true})
			}
		})
		b.Run(fmt.Sprint(n, "/json"), func(b *testing.B) {
			for b.Loop() {
				_ = r.WriteJSON(io.Discard)
			}
		})
	}
}

// Neighbours have rules in common that guard them, and each is shown with them.
func TestBuildNeighbours(t *testing.T) {
	t.Parallel()
	var sites []sample.Site
	for i, remote := range []string{"10.4.0.0/24", "10.4.1.0/24", "10.4.3.0/24"} {
		sites = append(sites, sample.Site{
			Reqid: uint32(i + 1), Local: "192.0.2.2", Remote: fmt.Sprintf("203.0.113.%d", i), Pairs: [][2]string{{"10.2.0.0/24", remote}}, Down: true,
		})
	}
	in := inputOf(t, sample.Snapshot(sample.Sun(), sites...), firewall.Input{})
	in.Live = nil
	r := Build(in)
	shared := make(map[string]Rule)
	for _, rule := range r.SharedRules {
		shared[rule.ID] = rule
	}
	for _, tunnel := range r.Tunnels {
		guards := make(map[rules.Purpose]int)
		for _, rule := range tunnel.Rules {
			guards[rule.Purpose]++
		}
		for _, id := range tunnel.GuardedBy {
			if rule := shared[id]; strings.Contains(rule.Rule, "10.4.0.0/23") {
				guards[rule.Purpose]++
			} else {
				t.Errorf("%s is guarded by %s: %q", tunnel.Selectors[0].Remote, id, rule.Rule)
			}
		}
		beside := tunnel.Selectors[0].Remote != "10.4.3.0/24"
		if (len(tunnel.GuardedBy) > 0) != beside {
			t.Errorf("%s has %d rules with its neighbours", tunnel.Selectors[0].Remote, len(tunnel.GuardedBy))
		}
		for purpose, want := range map[rules.Purpose]int{rules.PurposeSpoofGuard: 3, rules.PurposeInjectGuard: 1, rules.PurposeLeakGuard: 3} {
			if guards[purpose] != want {
				t.Errorf("%s: %d rules are for %s, want %d", tunnel.Selectors[0].Remote, guards[purpose], purpose, want)
			}
		}
	}
}
