package faults

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// audit is the daemon's interval here. allowed is the time for which the rules may be
// wrong once the fault is over: that interval, the time after which a program that hangs
// is killed, and the delay of a busy machine.
const (
	audit   = 5 * time.Second
	allowed = audit + 10*time.Second + 30*time.Second
)

// table stands for a variant: the rules are in the table of the nftables engine.
const table = "nftables"

// host is one gateway with a daemon, and with tunnels that come and go.
type host struct {
	t       *testing.T
	variant string
	dir     string
	rnd     *rand.Rand
	cmd     *exec.Cmd
	exited  chan struct{}
	log     *lines
	// tunnels are the numbers of those that stand.
	tunnels map[int]bool
	took    []time.Duration
}

// lines collects the output of the daemon.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.WriteString(time.Now().Format("05.000 "))
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func newHost(t *testing.T, variant string) *host {
	t.Helper()
	h := &host{
		t: t, variant: variant, dir: t.TempDir(), log: new(lines), tunnels: map[int]bool{},
		rnd: rand.New(rand.NewPCG(1, uint64(len(variant)))),
	}
	h.write("xfrmfw.yaml", fmt.Sprintf("daemon: {audit: %s, metrics: %q}\n", audit, "unix:"+h.path("metrics.sock")))
	t.Cleanup(func() {
		h.kill(syscall.SIGTERM)
		if strings.Contains(h.log.String(), "DATA RACE") {
			t.Error("the daemon has a data race")
		}
		if t.Failed() {
			t.Logf("the daemon said:\n%s", h.log)
		}
		h.run("ip", "xfrm", "policy", "flush")
		h.mode("work")
		h.run(binary, h.args("clear")...)
		_ = syscall.Unmount(h.path("state"), syscall.MNT_DETACH)
	})
	for i := range 5 {
		h.tunnel(i, true)
	}
	h.start()
	h.right("the daemon starts")
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// mode sets the behaviour of the restore programs: work, fail or hang.
func (h *host) mode(mode string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(work, "mode"), []byte(mode+"\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) args(command ...string) []string {
	variant := []string{"--variant", h.variant}
	if h.variant == table {
		variant = []string{"--engine", "nftables"}
	}
	return append(append(command, variant...), "--config", h.path("xfrmfw.yaml"), "--run-dir", h.path("run"), "--state-dir", h.path("state"))
}

// run runs a program that has to succeed.
func (h *host) run(name string, args ...string) string {
	h.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		h.t.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// start starts the daemon, with a receive buffer that holds a few notifications.
func (h *host) start() {
	h.t.Helper()
	h.cmd = exec.Command(binary, h.args("daemon", "--event-buffer", "4096")...)
	h.cmd.Stderr = h.log
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan<- struct{}) {
		defer close(exited)
		_ = cmd.Wait()
	}(h.cmd, h.exited)
}

// kill ends the daemon by a signal.
func (h *host) kill(sig syscall.Signal) {
	h.t.Helper()
	_ = h.cmd.Process.Signal(sig)
	select {
	case <-h.exited:
	case <-time.After(time.Minute):
		h.t.Errorf("the daemon outlives %v", sig)
		_ = h.cmd.Process.Kill()
	}
}

// tunnel adds or removes the policies of one tunnel.
func (h *host) tunnel(n int, up bool) {
	h.t.Helper()
	h.batch(h.policies(n, up))
}

func (h *host) batch(text string) {
	h.t.Helper()
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("ip -batch: %v: %s", err, out)
	}
}

func (h *host) policies(n int, up bool) string {
	verb, tmpl := "add", func(src, dst string) string {
		return fmt.Sprintf(" tmpl src %s dst %s proto esp reqid %d mode tunnel", src, dst, n+1)
	}
	if !up {
		verb, tmpl = "delete", func(string, string) string { return "" }
	}
	h.tunnels[n] = up
	remote, peer := fmt.Sprintf("10.2.%d.0/24", n), fmt.Sprintf("198.51.100.%d", n+1)
	return fmt.Sprintf("xfrm policy %[1]s src 10.1.0.0/24 dst %[2]s dir out%[3]s\nxfrm policy %[1]s src %[2]s dst 10.1.0.0/24 dir in%[4]s\nxfrm policy %[1]s src %[2]s dst 10.1.0.0/24 dir fwd%[4]s\n",
		verb, remote, tmpl("192.0.2.1", peer), tmpl(peer, "192.0.2.1"))
}

// trickle has one more tunnel come and go, until it is stopped.
func (h *host) trickle(n int) (stop func()) {
	texts := []string{h.policies(n, true), h.policies(n, false)}
	delete(h.tunnels, n) // it is in none of the states that are looked for
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			for _, text := range texts {
				cmd := exec.Command("ip", "-batch", "-")
				cmd.Stdin = strings.NewReader(text)
				_ = cmd.Run()
			}
			select {
			case <-end:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

// storm has tunnels come and go, hundreds of policies in all; those that stand in
// the end are any of the first twenty.
func (h *host) storm() {
	h.t.Helper()
	var b strings.Builder
	for range 60 {
		n := h.rnd.IntN(20)
		b.WriteString(h.policies(n, !h.tunnels[n]))
	}
	h.batch(b.String())
}

// right waits until the rules are right, by the program's own word and by a look
// of ours, and keeps how long it took.
func (h *host) right(after string) {
	h.t.Helper()
	began := time.Now()
	for {
		why := h.wrong()
		took := time.Since(began)
		line, _, _ := strings.Cut(why, "\n")
		_, _ = fmt.Fprintf(h.log, "%s, %v: %s\n", after, took.Round(time.Millisecond), line)
		switch {
		case why == "":
			h.took = append(h.took, took)
			return
		case took > allowed:
			h.t.Fatalf("%s: wrong for longer than %v: %s\n%s", after, allowed, why, h.run("iptables-"+h.variant+"-save", "-t", "mangle"))
		}
		select {
		case <-h.exited:
			h.t.Fatalf("%s: the daemon has ended", after)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// eventually waits until a condition holds, or fails the test with the condition's error.
func (h *host) eventually(wrong string, ok func() bool) {
	h.t.Helper()
	for began := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > allowed {
			h.t.Fatal(wrong)
		}
	}
}

// wrong names the fault in the rules.
func (h *host) wrong() string {
	if why := h.missing(); why != "" {
		return why
	}
	if out, err := exec.Command(binary, h.args("check")...).CombinedOutput(); err != nil {
		return string(out)
	}
	return ""
}

// missing names the first rule or element of a tunnel that is missing, or should be.
func (h *host) missing() string {
	if h.variant == table {
		return h.missingElement()
	}
	// Its warnings must not get in between.
	out, err := exec.Command("iptables-"+h.variant+"-save", "-t", "mangle").Output()
	if err != nil {
		return err.Error()
	}
	text := string(out)
	for chain, ours := range map[string]string{"PREROUTING": "XFRMFW-PRE", "INPUT": "XFRMFW-IN", "FORWARD": "XFRMFW-FWD", "POSTROUTING": "XFRMFW-POST"} {
		first := regexp.MustCompile(`(?m)^-A ` + chain + ` .*$`).FindString(text)
		if !strings.HasSuffix(first, "-j "+ours) {
			return fmt.Sprintf("the first rule of %s is %q", chain, first)
		}
	}
	guarded := spoofGuards(text)
	for n, up := range h.tunnels {
		// A tunnel that is gone stays guarded, since it is remembered.
		guards := 0
		for _, network := range guarded {
			if network.Contains(netip.AddrFrom4([4]byte{10, 2, byte(n), 1})) {
				guards++
			}
		}
		verified := strings.Contains(text, fmt.Sprintf("--reqid %d --proto esp", n+1))
		if up && (guards == 0 || !verified) {
			return fmt.Sprintf("tunnel %d has %d spoof guards, verified: %v", n, guards, verified)
		}
		if !up && verified {
			return fmt.Sprintf("tunnel %d is gone and still verified", n)
		}
	}
	return ""
}

// missingElement is missing for the table of nftables.
func (h *host) missingElement() string {
	text, err := exec.Command("nft", "list", "table", "inet", "xfrmfw").CombinedOutput()
	if err != nil {
		return string(text)
	}
	for n, up := range h.tunnels {
		pair := fmt.Sprintf(`10\.2\.%d\.0 \. 10\.1\.0\.0 `, n)
		guarded := regexp.MustCompile(`(?m)([{,]|^)\s*` + pair).Match(text)
		verified := regexp.MustCompile(fmt.Sprintf(`\b%d \. %s`, n+1, pair)).Match(text)
		if up && !guarded || up != verified {
			return fmt.Sprintf("tunnel %d, up: %v, is guarded: %v, verified: %v", n, up, guarded, verified)
		}
	}
	return ""
}

// spoofGuards are the remote networks that rules guard. One rule may guard neighbours.
func spoofGuards(save string) []netip.Prefix {
	var guarded []netip.Prefix
	for _, m := range regexp.MustCompile(`(?m)^-A XFRMFW-SPOOF.* -s (10\.2\.\S*) -d 10\.1\.0\.0/24 .*guard-spoof`).FindAllStringSubmatch(save, -1) {
		if p, err := netip.ParsePrefix(m[1]); err == nil {
			guarded = append(guarded, p)
		}
	}
	return guarded
}

// metric reads the sum of a metric's series.
func (h *host) metric(name string) float64 {
	h.t.Helper()
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.path("metrics.sock"))
	}}}
	r, err := client.Get("http://daemon/metrics")
	for began := time.Now(); err != nil && time.Since(began) < allowed; r, err = client.Get("http://daemon/metrics") {
		time.Sleep(10 * time.Millisecond) // it serves after its first turn
	}
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		h.t.Fatal(err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(b.String()) {
		if series, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(series, name) {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				h.t.Fatalf("%s: %v", line, err)
			}
			sum, found = sum+v, true
		}
	}
	if !found {
		h.t.Fatalf("no metric %s in:\n%s", name, b.String())
	}
	return sum
}

// report prints how long the rules were wrong.
func (h *host) report(what string) {
	h.t.Helper()
	took := slices.Sorted(slices.Values(h.took[1:])) // without the start
	h.t.Logf("%s, %s: %d times; right again after %v (median), %v (worst)",
		h.variant, what, len(took), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}
