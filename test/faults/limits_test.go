package faults

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// batch runs commands of ip.
func (s *site) batch(n int, line func(i int) string) {
	s.t.Helper()
	var lines strings.Builder
	for i := range n {
		fmt.Fprintln(&lines, line(i))
	}
	s.must(os.WriteFile(s.path("batch"), []byte(lines.String()), 0o600))
	if out, err := exec.Command("ip", "-batch", s.path("batch")).CombinedOutput(); err != nil {
		s.t.Fatalf("ip: %v: %s", err, out)
	}
}

// Where peers make more than there is room for, what stood before keeps its rules, and
// apply, status and doctor say so until it ends.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    int
		line func(verb string, i int) string
		want string
		// beyond is in the rules once it is within the limit.
		beyond string
	}{
		{
			name: "bypass policies, as of hosts without IPsec", n: 4097,
			line: func(verb string, i int) string {
				if i == 4096 { // of the guarded pair
					return fmt.Sprintf("xfrm policy %s src 10.1.0.0/24 dst 10.2.1.77/32 dir out", verb)
				}
				return fmt.Sprintf("xfrm policy %s src 10.9.0.0/24 dst 10.8.%d.%d/32 dir out", verb, i/256, i%256)
			},
			want: "bypass and block policies: there are 4097, and room for 4096", beyond: "10.2.1.77/32",
		},
		{
			name: "pairs for the memory", n: 70,
			line: func(verb string, i int) string {
				line := fmt.Sprintf("xfrm policy %s src 10.1.0.0/24 dst 10.3.%d.0/24 dir out", verb, i)
				if verb == "add" {
					line += " tmpl src 192.0.2.1 dst 198.51.100.3 proto esp reqid 3 mode tunnel"
				}
				return line
			},
			want: "pairs for the memory: there are 72, and room for 66",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.beyond != "" && rounds(t) == 1 {
				t.Skipf("left to scripts/soak: %s", t.Name()) // thousands of policies
			}
			s := newSite(t, "absent")
			s.batch(tt.n, func(i int) string { return tt.line("add", i) })
			for _, command := range []string{"apply", "status", "doctor --interval 0s"} {
				out := s.xfrmfw(strings.Fields(command)...)
				if !strings.Contains(strings.Join(strings.Fields(out), " "), tt.want) || command[0] == 'd' && !strings.Contains(out, "[limits]") {
					t.Errorf("%s does not say %q:\n%s", command, tt.want, out)
				}
			}
			if s.unguarded() {
				t.Error("the remembered pair has no guard")
			}
			if tt.beyond == "" {
				return
			}
			live := func() string {
				t.Helper()
				out, err := exec.Command("iptables-nft-save", "-t", "mangle").Output()
				s.must(err)
				return string(out)
			}
			if strings.Contains(live(), tt.beyond) {
				t.Errorf("%s is in the rules, beyond the limit", tt.beyond)
			}
			s.batch(1, func(int) string { return tt.line("delete", 0) })
			if out := s.xfrmfw("apply"); strings.Contains(out, "room for") || !strings.Contains(live(), tt.beyond) {
				t.Errorf("within the limit, %s is not in the rules: %s", tt.beyond, out)
			}
		})
	}
}

// While an apply reads conntrack, others have the lock: a large table delays no hook.
func TestLockIsFreeWhileConntrackIsRead(t *testing.T) {
	if rounds(t) == 1 {
		t.Skipf("left to scripts/soak: %s", t.Name()) // 200,000 flows
	}
	s := newSite(t, "absent")
	const flows = 200_000
	var text strings.Builder
	for i := range flows { // masqueraded, to elsewhere
		fmt.Fprintf(&text, "-I -s 10.%d.%d.%d -d 198.51.%d.7 -r 198.51.%[4]d.7 -q 192.0.2.2 -p udp --sport %[5]d --dport 53 --reply-port-src 53 --reply-port-dst %[5]d --timeout 1000 --src-nat 192.0.2.2\n",
			9+i/62500, i/250%250, i%250+1, i/60000, 1024+i%60000)
	}
	load := exec.Command("conntrack", "--load-file", "-")
	load.Stdin = strings.NewReader(text.String())
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("fill conntrack: %v: %.200s", err, out)
	}
	defer func() { _ = exec.Command("conntrack", "-F").Run() }()
	lock, err := os.OpenFile(s.path("run/apply-"+s.ns+".lock"), os.O_RDWR, 0)
	s.must(err)
	defer lock.Close()
	free := func() bool {
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			return false
		}
		s.must(unix.Flock(int(lock.Fd()), unix.LOCK_UN))
		return true
	}
	s.policies(true, 3)
	cmd := exec.Command(binary, s.args("apply")...)
	s.must(cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	until := func(want bool) {
		for free() != want {
			select {
			case <-ended:
				t.Fatalf("the apply has ended, and its lock was never seen as free: %v", !want)
			default:
			}
		}
	}
	until(false)
	until(true)
	select {
	case <-ended:
		t.Error("the lock is free only when the apply has ended")
	case <-time.After(20 * time.Millisecond):
	}
	began := time.Now()
	<-ended
	t.Logf("files: lock free %v before an apply with %d flows in conntrack ended", time.Since(began).Round(time.Millisecond), flows)
}
