package ike

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// environment is the environment that charon gives to an updown script.
func environment(verb string, reqid int, remote, id string, more ...string) []string {
	return append([]string{"PLUTO_VERSION=1.1", "PLUTO_VERB=" + verb, "PLUTO_CONNECTION=net", "PLUTO_INTERFACE=wan0",
		fmt.Sprintf("PLUTO_REQID=%d", reqid), "PLUTO_PROTO=esp", "PLUTO_UNIQUEID=1", "PLUTO_ME=192.0.2.2", "PLUTO_MY_ID=sun.lab",
		"PLUTO_MY_CLIENT=10.2.0.0/24", "PLUTO_MY_PORT=0", "PLUTO_MY_PROTOCOL=0", "PLUTO_PEER=192.0.2.1", "PLUTO_PEER_ID=" + id,
		"PLUTO_PEER_CLIENT=" + remote, "PLUTO_PEER_PORT=0", "PLUTO_PEER_PROTOCOL=0"}, more...)
}

// TestManyHooksAtOnce has many tunnels come up in the kernel, 200 in scripts/soak, and their hooks be called all at once:
// one or two applies follow, every tunnel is in the rules, and every peer is known.
func TestManyHooksAtOnce(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	hooks := count(60)
	n := lab.NewNetwork(t)
	sun := n.Sun
	var policies []lab.Policy
	var calls strings.Builder
	for i := range hooks {
		c := lab.IPsec{Reqid: uint32(100 + i), MoonNets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 3, 0, byte(i)}), 32)}}
		policies = append(policies, n.Policies(sun, c)...)
		for _, word := range environment("up-client", 100+i, c.MoonNets[0].String(), fmt.Sprintf("peer%d", i)) {
			calls.WriteString(word + " ")
		}
		// Each iptables-save is one look at the live rules.
		calls.WriteString(updown(t) + " || echo failed &\n")
	}
	sun.AddPolicies(t, policies...)
	dir := t.TempDir()
	for _, name := range []string{"iptables-save", "iptables-" + lab.Variant() + "-save"} {
		counts := "#!/bin/sh\necho save >>/run/xfrmfw/saves\nexec /usr/sbin/xtables-" + lab.Variant() + "-multi iptables-save \"$@\"\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(counts), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	result := sun.Call(t, nil, "", "sh", "-c",
		fmt.Sprintf("mount -t overlay -o lowerdir=%s:/usr/sbin overlay /usr/sbin || exit\n%swait", dir, calls.String()))
	if result != (lab.Result{}) {
		t.Fatalf("hooks: %+v", result)
	}
	took := time.Since(begin)
	lab.InSync(t, sun)
	if left, _ := filepath.Glob(filepath.Join(sun.RunDir(), "hook-*.pending")); len(left) != 0 {
		t.Errorf("word is left: %v", left)
	}
	r := status(t, sun)
	known := make(map[string]bool)
	for _, u := range r.Tunnels {
		known[u.PeerID] = true
	}
	if len(r.Tunnels) != hooks || len(known) != hooks || known[""] {
		t.Errorf("%d tunnels of %d peers", len(r.Tunnels), len(known))
	}
	saves, err := os.ReadFile(filepath.Join(sun.RunDir(), "saves"))
	if err != nil {
		t.Fatal(err)
	}
	// The first apply may have begun before the last hook was called, and an apply that wrote looks no further.
	applies := strings.Count(string(saves), "save")
	t.Logf("%d hooks at once returned in %v and came to %d applies", hooks, took, applies)
	if applies < 1 || applies > 2 {
		t.Errorf("%d applies, want one or two", applies)
	}
}

// TestHookTime compares the time that an IKE daemon waits for the hook with that for strongSwan's own script, which it
// replaces.
func TestHookTime(t *testing.T) {
	lab.RunIn(t, lab.Newest)
	const stock = "/usr/lib/ipsec/_updown"
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{})
	calls := count(11)
	measure := func(env []string, name string, args ...string) time.Duration {
		begin := time.Now()
		if r := n.Sun.Call(t, env, "", name, args...); r.Code != 0 {
			t.Fatalf("%s: %+v", name, r)
		}
		return time.Since(begin)
	}
	times := make(map[string][]time.Duration)
	for i := range calls {
		env := environment("up-client", 11, "10.1.0.0/24", "moon.lab")
		times["the hook"] = append(times["the hook"], measure(env, script(t, "updown"), strings.Fields(lab.HookCommand(t))...))
		// Not while the hook's apply keeps the machine busy: that would count against the other.
		lab.Eventually(t, 6*lab.Patience, func() error {
			if left, _ := filepath.Glob(filepath.Join(n.Sun.RunDir(), "hook-*.[pt]*")); len(left) != 0 {
				return fmt.Errorf("word is left: %v", left)
			}
			return nil
		})
		n.Sun.MustXfrmfw(t, "apply") // waits for the worker's
		times["_updown iptables"] = append(times["_updown iptables"], measure(env, stock, "iptables"))
		times["nothing"] = append(times["nothing"], measure(env, "/bin/true"))
		if i%5 == 4 {
			n.Sun.Iptables(t, lab.IPv4, "-F", "FORWARD")
		}
	}
	for name, list := range times {
		slices.Sort(list)
		t.Logf("%-17s median %v, worst %v of %d calls", name, list[len(list)/2], list[len(list)-1], len(list))
	}
	if hook, other := times["the hook"][calls/2], times["_updown iptables"][calls/2]; hook > other {
		t.Errorf("the hook takes %v, longer than %v of what it replaces", hook, other)
	}
}
