package e2e

import (
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// nth makes a stand-in do something from the n-th iptables-restore of an apply on; the count is in a file.
const nth = `n=$(cat /run/xfrmfw/count 2>/dev/null)
n=$((n + 1))
echo $n >/run/xfrmfw/count
`

// TestApplyFails is that an apply which fails half-way leaves traffic as it was
// classified before and lists the rules that stand, and that the next apply mends all.
func TestApplyFails(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	standing := lab.IPsec{}
	fresh := []lab.IPsec{{Inner: lab.IPv6, Reqid: 12}, {Reqid: 13, MoonNets: prefixes("10.1.3.0/24")}}
	closed(t, n.Gateways()...)
	n.Up(t, standing)
	for _, g := range n.Gateways() {
		g.MustXfrmfw(t, "apply")
	}
	sun, v4, v6 := n.Sun, lab.IPv4, lab.IPv6
	up := func() {
		t.Helper()
		for _, tunnel := range fresh {
			n.Up(t, tunnel)
		}
	}
	// down takes the new tunnels away again, so that there is something to apply for the next case.
	down := func() {
		t.Helper()
		for _, tunnel := range fresh {
			n.Down(t, tunnel)
		}
		forget(t, sun)
		sun.MustXfrmfw(t, "apply")
		up()
		outOfSync(t, sun)
	}
	// passes is that the standing tunnel is served as before: between closed gateways only verified packets pass.
	passes := func() {
		t.Helper()
		n.Alice.MustPing(t, n.Bob.Inner(v4), 1)
	}
	mended := func() {
		t.Helper()
		sun.MustXfrmfw(t, "apply")
		inSync(t, sun)
		passes()
		n.Alice.MustPing(t, n.Bob.Inner(v6), 1)
	}
	up()
	n.Moon.MustXfrmfw(t, "apply")

	for _, test := range []struct {
		name, script string
		// want are words that the error has; kept is that the former rules stand, to the letter.
		want []string
		kept bool
	}{
		{"a bad rule in filter", `case $0 in *ip6*) real "$@"; exit ;; esac
sed '/^\*filter/,$s/^COMMIT$/-A XFRMFW-NOSUCH -j DROP\nCOMMIT/' | real "$@"
`, []string{"restore filter (ipv4)", "the former rules are in force"}, true},
		{"a bad rule in mangle", `case $0 in *ip6*) ;; *) real "$@"; exit ;; esac
sed '/^\*mangle/,$s/^COMMIT$/-A XFRMFW-NOSUCH -j DROP\nCOMMIT/' | real "$@"
`, []string{"restore mangle (ipv6)", "the former rules are in force"}, true},
		{"a killed iptables-restore", nth + `[ $n = 2 ] && kill -KILL $$
real "$@"
`, []string{"killed", "the former rules are in force"}, true},
		{"an iptables-restore killed after its commit", nth + `real "$@" || exit
[ $n = 2 ] && kill -KILL $$
exit 0
`, []string{"killed", "the former rules are in force"}, true},
		{"no iptables-restore works any more", nth + `[ $n -lt 2 ] && { real "$@"; exit; }
echo "out of order" >&2
exit 1
`, []string{"out of order", "new rules stand in mangle", `run "xfrmfw apply" again`}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := saves(t, sun)
			r := newStandIn(t, map[string]string{"-restore": test.script}).xfrmfw(t, sun, "apply")
			logged(t, sun, "count")
			if r.Code != 1 || r.Stdout != "" {
				t.Errorf("exit status %d, want 1; stdout %q, want none", r.Code, r.Stdout)
			}
			for _, word := range test.want {
				if !strings.Contains(r.Stderr, word) {
					t.Errorf("the error has no %q:\n%s", word, r.Stderr)
				}
			}
			if after := saves(t, sun); test.kept && after != before {
				t.Errorf("the former rules do not stand: %s", difference(after, before))
			} else if !test.kept && after == before {
				t.Error("the former rules stand, and were not to be reached")
			}
			passes()
			outOfSync(t, sun)
		})
	}
	mended()

	t.Run("killed after each commit", func(t *testing.T) {
		down()
		killing := newStandIn(t, map[string]string{"-restore": "real \"$@\" || exit\nkill -KILL $PPID\nsleep 1\n"})
		kills := 0
		for {
			r := killing.xfrmfw(t, sun, "apply")
			if r.Code == 0 {
				break
			}
			if kills++; r.Code != -1 || kills > 12 {
				t.Fatalf("apply %d: exit status %d, want death by a signal\n%s", kills, r.Code, r.Stderr)
			}
			passes()
		}
		if kills < 4 {
			t.Errorf("apply was killed after %d commits, want those of two tables in two families", kills)
		}
		inSync(t, sun)
		mended()
	})

	t.Run("killed at any moment", func(t *testing.T) {
		down()
		start := time.Now()
		sun.MustXfrmfw(t, "apply")
		took := time.Since(start)
		for kills, tries := 0, 0; kills < 2; tries++ {
			if tries == 50 {
				t.Fatal("apply was never killed: it ends before")
			}
			down()
			wait := rand.N(took)
			p := sun.StartXfrmfw(t, "apply")
			time.Sleep(wait)
			killed := p.Kill() // it may be faster than the first one was
			p.Wait(t, lab.Patience)
			if killed {
				kills++
				t.Logf("killed after %v of %v", wait, took)
			}
			passes()
		}
		mended()
	})

	t.Run("another program holds the xtables lock", func(t *testing.T) {
		// Only legacy programs have it. Whatever the host's are, these are of the kernel of the lab.
		host := lab.NewHosts(t, "gateway")[0]
		host.AddPolicies(t, n.Policies(n.Sun, standing)...)
		lock, err := os.OpenFile("/run/xtables.lock", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		r := host.Xfrmfw(t, "--variant", "legacy", "apply")
		if r.Code != 1 || !strings.Contains(r.Stderr, "holds the xtables lock") || !strings.Contains(r.Stderr, "the former rules are in force") {
			t.Errorf("apply: %+v", r)
		}
		if saved := host.Run(t, "iptables-legacy-save"); strings.Contains(saved, "XFRMFW") {
			t.Errorf("rules were written:\n%s", saved)
		}
		lock.Close()
		if out := host.MustXfrmfw(t, "--variant", "legacy", "apply"); !strings.HasPrefix(out, "applied: ") {
			t.Errorf("apply with the lock free: %s", out)
		}
	})
}
