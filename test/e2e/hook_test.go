package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// script is the path of a file that is shipped, as the tests' own folder is where they run.
func script(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "scripts", "dist", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Each apply asks iptables for its version as often as the next, and holdsSaves lets iptables-save wait until
// /run/xfrmfw/go is there.
const (
	logsVersions = `[ "$1" != --version ] || echo version >>/run/xfrmfw/versions
real "$@"
`
	holdsSaves = `echo "${0##*/}" >>/run/xfrmfw/saves
while ! [ -e /run/xfrmfw/go ]; do sleep 0.1; done
real "$@"
`
)

// idle returns an error while a hook's workers have work: the one at work and the one
// that waits for its lock each hold a lock.
func idle(h *lab.Host) error {
	locks, err := filepath.Glob(filepath.Join(h.RunDir(), "hook-*.lock"))
	if err != nil || len(locks) == 0 {
		return fmt.Errorf("locks of the workers: %v %v", locks, err)
	}
	held, err := os.ReadFile("/proc/locks") // to try the lock could turn a worker away
	if err != nil {
		return err
	}
	for _, lock := range locks {
		info, err := os.Stat(lock)
		if err != nil {
			return err
		}
		if strings.Contains(string(held), fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino)) {
			return fmt.Errorf("a worker holds %s", lock)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(h.RunDir(), "hook-*.pending")); len(left) != 0 {
		return fmt.Errorf("work is left: %v", left)
	}
	return nil
}

// TestHook calls the hook as an IKE daemon's updown script does, and worse.
func TestHook(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	sun := n.Sun
	n.Up(t, lab.IPsec{})
	eventuallyInSync := func() {
		t.Helper()
		lab.Eventually(t, 3*lab.Patience, func() error {
			if r := sun.Xfrmfw(t, "check"); r.Code != 0 {
				return fmt.Errorf("check: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			return nil
		})
	}

	t.Run("coalesced", func(t *testing.T) {
		// The cost of one apply.
		free := newStandIn(t, map[string]string{"": logsVersions})
		if r := free.xfrmfw(t, sun, "apply"); r.Code != 0 {
			t.Fatalf("apply: %+v", r)
		}
		once := len(logged(t, sun, "versions"))

		held := newStandIn(t, map[string]string{"": logsVersions, "-save": holdsSaves})
		silent := func(r lab.Result) {
			t.Helper()
			if r != (lab.Result{}) {
				t.Errorf("hook: %+v, want 0 and not a word", r)
			}
		}
		// The first apply hangs, and the hook returns nevertheless: it waits for nothing.
		start := time.Now()
		silent(held.xfrmfw(t, sun, "hook"))
		t.Logf("a hook took %v", time.Since(start))
		lab.Eventually(t, lab.Patience, func() error {
			_, err := os.Stat(filepath.Join(sun.RunDir(), "saves"))
			return err
		})
		n.Up(t, lab.IPsec{Inner: lab.IPv6, Reqid: 12}) // after the first apply read the kernel
		silent(held.manyTimes(t, sun, "hook"))
		// An apply reads both families at the same time.
		read := logged(t, sun, "saves")
		slices.Sort(read)
		if len(read) != len(lab.Families) || len(slices.Compact(read)) != len(lab.Families) {
			t.Errorf("%q read the rules, want those of the one apply that hangs", read)
		}
		if err := os.WriteFile(filepath.Join(sun.RunDir(), "go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 3*lab.Patience, func() error { return idle(sun) })
		inSync(t, sun)
		if got := status(t, sun); len(got.Tunnels) != 2 {
			t.Errorf("status shows %+v, want two tunnels", got.Tunnels)
		}
		if got := len(logged(t, sun, "versions")); once == 0 || got != 2*once {
			t.Errorf("50 calls came to %d looks at the version of iptables, of which an apply takes %d; want two applies", got, once)
		}
	})

	t.Run("hostile environment", func(t *testing.T) {
		want := saves(t, sun)
		touched := filepath.Join(sun.RunDir(), "touched")
		evil := "\"; touch " + touched + "; '$(touch " + touched + ")`touch " + touched + "`\n-A INPUT -j ACCEPT\nCOMMIT\n\xff\xfe\x80"
		env := []string{
			"PLUTO_VERB=up-client", "PLUTO_REQID=11\n-A INPUT -j ACCEPT", "PLUTO_PEER_ID=" + evil, "PLUTO_CONNECTION=" + evil,
			"PLUTO_PEER_CLIENT=0.0.0.0/0 -j ACCEPT", "PLUTO_PEER=" + strings.Repeat("A\"'", 1<<16/3), "PLUTO_XAUTH_ID=%s%n" + evil,
			"IFS=/", "PATH=/nonexistent", "ENV=" + touched, "BASH_ENV=" + touched, "LD_PRELOAD=", "XTABLES_LOCKFILE=/nonexistent/" + evil,
		}
		r := sun.Call(t, env, "", script(t, "updown"), lab.Binary(t))
		if r.Code != 0 || r.Stdout+r.Stderr != "" {
			t.Errorf("updown: %+v, want 0 and not a word", r)
		}
		n.Up(t, lab.IPsec{Reqid: 13, MoonNets: prefixes("10.1.3.0/24")})
		if r := sun.Call(t, env, "", script(t, "updown"), lab.Binary(t)); r.Code != 0 {
			t.Errorf("updown: %+v", r)
		}
		eventuallyInSync()
		if _, err := os.Stat(touched); err == nil {
			t.Error("a word of the environment was executed")
		}
		for _, f := range lab.Families {
			if got := sun.Iptables(t, f, "-S", "INPUT"); strings.Count(got, "\n") != 2 {
				t.Errorf("%v: filter INPUT has more than our jump:\n%s", f, got)
			}
		}
		sun.DeletePolicies(t, n.Policies(sun, lab.IPsec{Reqid: 13, MoonNets: prefixes("10.1.3.0/24")})...)
		sun.DeleteSAs(t, n.SAs(sun, lab.IPsec{Reqid: 13})...)
		forget(t, sun)
		sun.MustXfrmfw(t, "apply")
		if got := saves(t, sun); got != want {
			t.Errorf("the rules are not those of an apply: %s", difference(got, want))
		}
	})

	t.Run("what can't work", func(t *testing.T) {
		want := saves(t, sun)
		if err := os.WriteFile(filepath.Join(sun.EtcDir(), "broken.yaml"), []byte("wann: x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"--run-dir", "/proc/nosuch"}, {"--config", "/etc/xfrmfw/broken.yaml"}, {"--config", "/nonexistent"}, {"--variant", "nosuch"},
		} {
			if r := sun.Xfrmfw(t, append([]string{"hook"}, args...)...); r.Code != 0 {
				t.Errorf("hook %v: %+v, want exit status 0", args, r)
			}
		}
		if r := sun.Call(t, nil, "", script(t, "updown"), "/nonexistent/xfrmfw"); r.Code != 0 {
			t.Errorf("updown without a program: %+v, want exit status 0", r)
		}
		if got := saves(t, sun); got != want {
			t.Errorf("rules were changed: %s", difference(got, want))
		}
	})
}

// TestStrongSwan has a real IKE daemon bring a tunnel up and down between closed gateways, and the hook follow.
func TestStrongSwan(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	f := lab.IPv4
	closed(t, n.Gateways()...)
	for _, g := range n.Gateways() {
		g.MustXfrmfw(t, "apply") // IKE has to come in
	}
	ike := n.StartIKE(t, lab.IPsec{}, script(t, "updown")+" "+lab.HookCommand(t))
	n.Alice.MustNotPing(t, n.Bob.Inner(f), 1)
	wire := n.Wire(t)
	ike.Initiate(t)
	lab.Eventually(t, 3*lab.Patience, func() error {
		if p := n.Alice.Ping(t, n.Bob.Inner(f), 1); p.Received == 0 {
			return fmt.Errorf("alice does not reach bob: %s\nsun: %+v", p.Output, n.Sun.Xfrmfw(t, "check"))
		}
		return nil
	})
	n.Bob.MustPing(t, n.Alice.Inner(f), 2)
	for _, g := range n.Gateways() {
		inSync(t, g)
		if r := status(t, g); len(r.Tunnels) != 1 || r.Tunnels[0].State != "up" || r.Tunnels[0].Evidence != "tag+policy" {
			t.Errorf("%s: status shows %+v", g.Name, r.Tunnels)
		}
	}
	ike.Rekey(t)
	n.Bob.MustPing(t, n.Alice.Inner(f), 2)
	inSync(t, n.Sun)

	ike.Terminate(t)
	for _, g := range n.Gateways() {
		lab.Eventually(t, 3*lab.Patience, func() error {
			if r := g.Xfrmfw(t, "check"); r.Code != 0 {
				return fmt.Errorf("%s: check after the tunnel went:\n%s", g.Name, r.Stdout)
			}
			return nil
		})
		if got := g.SAs(t); len(got) != 0 {
			t.Fatalf("states are left on %s: %q", g.Name, got)
		}
		for _, tunnel := range status(t, g).Tunnels {
			if tunnel.State == "up" {
				t.Errorf("%s: status shows %+v", g.Name, tunnel)
			}
		}
	}
	n.Alice.MustNotPing(t, n.Bob.Inner(f), 2)
	inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
	n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(f), 7001), inbox.Addr, "forged").Times(3)...)
	n.Alice.MustNotPing(t, n.Bob.Inner(f), 1)
	if got := inbox.Count("forged"); got != 0 {
		t.Errorf("%d packets in clear with an address of the tunnel came through", got)
	}
	for _, frame := range wire.Frames(t) {
		if lab.Between(n.Moon.InnerNet(f), n.Sun.InnerNet(f))(frame) && frame.Link != "mallory0" {
			t.Errorf("in clear on the wire: %v", frame)
		}
	}
}
