package coexist

import (
	"encoding/json"
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

// A site is a network with a tunnel that is up; sun is the gateway on which another firewall is at work beside xfrmfw.
type site struct {
	*lab.Network
	tunnel lab.IPsec
	inbox  *lab.Inbox
	// Servers behind the tunnel, and sun's own.
	alice, bob, sun netip.AddrPort
	done            counts
	ran             []string // lines of doctor's
}

// counts are the events on a site: flows that passed, times that traffic was cut, forged
// packets and leaks that were refused, and lines of doctor's that were run.
type counts struct{ flows, cuts, forged, leaks, findings, lines int }

// installed is where the program under test is found by its name.
const installed = "/usr/local/sbin/xfrmfw"

func newSite(t *testing.T) *site {
	t.Helper()
	return siteWith(t, lab.IPsec{})
}

func siteWith(t *testing.T, tunnel lab.IPsec) *site {
	t.Helper()
	s := &site{Network: lab.NewNetwork(t), tunnel: tunnel}
	s.Up(t, tunnel)
	s.inbox = s.Bob.ListenUDP(t, netip.AddrPortFrom(s.Bob.Inner(lab.IPv4), 7000))
	serve := func(h *lab.Host) netip.AddrPort {
		return h.ServeTCP(t, netip.AddrPortFrom(h.Inner(lab.IPv4), 7100))
	}
	s.alice, s.bob, s.sun = serve(s.Alice), serve(s.Bob), serve(s.Sun)
	t.Cleanup(func() {
		t.Logf("coexist: %s: cut off %d times, %d findings of doctor's, %d of its lines run; %d flows through the tunnel; %d forged packets and %d that would leave in clear, all refused",
			strings.TrimPrefix(t.Name(), "Test"), s.done.cuts, s.done.findings, s.done.lines, s.done.flows, s.done.forged, s.done.leaks)
	})
	// Where an administrator has it: this is the guest's own file system.
	if err := os.Symlink(lab.Binary(t), installed); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return s
}

// sh runs lines of shell on sun, as its administrator does, and returns their output.
func (s *site) sh(t *testing.T, lines ...string) string {
	t.Helper()
	r := s.try(t, lines...)
	if r.Code != 0 {
		t.Fatalf("%s\nexit status %d\n%s%s", strings.Join(lines, "\n"), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

func (s *site) try(t *testing.T, lines ...string) lab.Result {
	t.Helper()
	return s.Sun.Call(t, []string{"LC_ALL=C"}, "", "sh", "-ec", strings.Join(lines, "\n"))
}

// configure writes sun's xfrmfw.yaml.
func (s *site) configure(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Sun.EtcDir(), "xfrmfw.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A way is one from a host of the network through the tunnel.
type way struct {
	from *lab.Host
	to   netip.AddrPort
}

// try opens a flow and closes it again; nil is one that came about.
func (w way) try(t *testing.T, message string, limit time.Duration) error {
	t.Helper()
	conn, err := w.from.DialTCP(t, netip.AddrPort{}, w.to, limit)
	if err != nil {
		return err
	}
	defer conn.Close()
	return lab.EchoTCP(conn, message, limit)
}

func (s *site) ways() []way {
	return []way{{s.Alice, s.bob}, {s.Bob, s.alice}, {s.Alice, s.sun}}
}

// flows fails the test unless the tunnel carries new flows both ways, and to the gateway itself, or by these ways. They are TCP: many
// firewalls let pings pass, whatever else they drop.
func (s *site) flows(t *testing.T, when string, ways ...way) {
	t.Helper()
	if len(ways) == 0 {
		ways = s.ways()
	}
	for _, w := range ways {
		if err := w.try(t, when, lab.Patience); err != nil {
			t.Fatalf("%s: %s to %s: %v\n%s", when, w.from.Name, w.to, err, s.rules(t))
		}
		s.done.flows++
	}
}

// soon is how long a flow may take that is expected not to come about. One that is only slow fails the test as well.
const soon = 5 * time.Second

// cut fails the test unless one of the ways is closed: without that, a line that mends it would prove nothing.
func (s *site) cut(t *testing.T, when string, ways ...way) {
	t.Helper()
	if len(ways) == 0 {
		ways = s.ways()
	}
	for _, w := range ways {
		if err := w.try(t, when, soon); err != nil {
			t.Logf("%s: %s to %s: %v", when, w.from.Name, w.to, err)
			s.done.cuts++
			return
		}
	}
	t.Fatalf("%s: the tunnel's traffic flows, so that nothing is there to mend", when)
}

// refuses takes the tunnel down and fails the test if cleartext passes for its traffic,
// or leaves in its place. xfrmfw has to refuse it, but for packets that another firewall
// drops first, which then counts no leaks.
func (s *site) refuses(t *testing.T, leaks int) {
	t.Helper()
	before := s.drops(t)
	s.Down(t, s.tunnel)
	forged := lab.UDPPacket(netip.AddrPortFrom(s.Alice.Inner(lab.IPv4), 7001), s.inbox.Addr, "forged")
	s.Mallory.SendRaw(t, forged.Times(3)...)
	wire := s.Wire(t)
	s.Bob.MustNotPing(t, s.Alice.Inner(lab.IPv4), 3)
	lab.Eventually(t, lab.Patience, func() error {
		now := s.drops(t)
		if now.spoof < before.spoof+3 || now.leak < before.leak+leaks {
			return fmt.Errorf("drops were %+v and are %+v: want 3 and %d more\n%s", before, now, leaks, s.rules(t))
		}
		return nil
	})
	if got := s.inbox.Count("forged"); got != 0 {
		t.Errorf("%d forged packets came to bob", got)
	}
	// Packets of moon's are not sun's doing: moon's tunnel is down too, and moon has no
	// firewall.
	leaked := func(f lab.Frame) bool {
		return s.Sun.InnerNet(lab.IPv4).Contains(f.Src) && s.Moon.InnerNet(lab.IPv4).Contains(f.Dst)
	}
	if got := wire.Count(t, leaked); got != 0 {
		t.Errorf("%d packets left in clear: %v", got, wire.Frames(t))
	}
	s.done.forged += 3
	s.done.leaks += 3
}

type drops struct{ spoof, leak int }

// drops are sun's counters.
func (s *site) drops(t *testing.T) drops {
	t.Helper()
	all := dropped(t, s.Sun)
	return drops{all["spoof"], all["leak"]}
}

// dropped are the packets that the rules of a host's xfrmfw have dropped, by their guards; those without any are left out.
func dropped(t *testing.T, h *lab.Host) map[string]int {
	t.Helper()
	var status struct {
		Drops map[string]struct{ Packets int }
	}
	if err := json.Unmarshal([]byte(h.MustXfrmfw(t, "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	for guard, d := range status.Drops {
		if d.Packets != 0 {
			all[guard] = d.Packets
		}
	}
	return all
}

// A use is what a tunnel carries while another program works: a stream each way.
type use struct {
	streams []*lab.Stream
	began   time.Time
}

// used starts the streams between alice and bob.
func (s *site) used(t *testing.T) use {
	t.Helper()
	alice := s.Alice.ListenUDP(t, netip.AddrPortFrom(s.Alice.Inner(lab.IPv4), 7000))
	return use{[]*lab.Stream{s.Alice.Stream(t, "to bob", s.inbox), s.Bob.Stream(t, "to alice", alice)}, time.Now()}
}

// stop stops the streams and returns how many packets did not arrive.
func (u use) stop(t *testing.T) (lost int) {
	t.Helper()
	for _, s := range u.streams {
		s.Stop()
	}
	took := time.Since(u.began)
	for _, s := range u.streams {
		missing := s.Lost()
		lost += len(missing)
		t.Logf("coexist: %s, %s: %d sent in %s, %d lost", strings.TrimPrefix(t.Name(), "Test"), s.Name, s.Sent, took.Round(time.Second), len(missing))
	}
	return lost
}

// closed ends the FORWARD chain of gateways with a rule that drops what no other accepts, and counts it.
func closed(t *testing.T, gateways ...*lab.Host) {
	t.Helper()
	for _, g := range gateways {
		g.Iptables(t, lab.IPv4, "-A", "FORWARD", "-j", "DROP")
	}
}

// closedBy is how many packets came to that rule.
func closedBy(t *testing.T, g *lab.Host) int {
	t.Helper()
	return g.Counter(t, lab.IPv4, "filter", "-A FORWARD -j DROP")
}

// followed starts the daemon on a gateway and waits until it has made the rules.
func followed(t *testing.T, g *lab.Host) *lab.Process {
	t.Helper()
	daemon := g.StartXfrmfw(t, "daemon")
	lab.InSync(t, g)
	return daemon
}

// A finding is one of doctor's.
type finding struct {
	Check, Severity, Seen, Breaks string
	Mend                          []string
}

// doctor returns sun's findings but for notes; its exit status has to agree with them.
func (s *site) doctor(t *testing.T, args ...string) []finding {
	t.Helper()
	r := s.Sun.Xfrmfw(t, append([]string{"doctor", "--json", "--interval", "0s"}, args...)...)
	var report struct{ Findings []finding }
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
		t.Fatalf("doctor: %v\n%s%s", err, r.Stdout, r.Stderr)
	}
	var grave []finding
	for _, f := range report.Findings {
		if f.Severity != "note" {
			grave = append(grave, f)
		}
	}
	if want := map[bool]int{false: 0, true: 3}[len(grave) > 0]; r.Code != want {
		t.Fatalf("doctor: exit status %d with %d findings, want %d\n%s", r.Code, len(grave), want, r.Stdout)
	}
	return grave
}

// finds fails the test unless doctor has a finding of each of the checks, and no other. That the kernel and the guards count packets of
// flows that were cut is none.
func (s *site) finds(t *testing.T, when string, checks ...string) []finding {
	t.Helper()
	found := slices.DeleteFunc(s.doctor(t), func(f finding) bool { return f.Check == "counters" || f.Check == "dropped" })
	missing := map[string]bool{}
	for _, c := range checks {
		missing[c] = true
	}
	for _, f := range found {
		if _, wanted := missing[f.Check]; !wanted {
			t.Errorf("%s: doctor found %s: %s", when, f.Check, f.Seen)
		}
		missing[f.Check] = false
	}
	s.done.findings += len(found)
	for c, m := range missing {
		if m {
			t.Errorf("%s: doctor did not find %s in %+v\n%s", when, c, found, s.rules(t))
		}
	}
	return found
}

// follow runs the lines that doctor prints for these findings, and nothing else.
func (s *site) follow(t *testing.T, findings []finding) {
	t.Helper()
	printed := mends(s.Sun.Xfrmfw(t, "doctor", "--interval", "0s").Stdout)
	for _, f := range findings {
		lines := printed[f.Seen+" ["+f.Check+"]"]
		if len(lines) == 0 {
			t.Fatalf("doctor prints no line for %s: %q", f.Seen, printed)
		}
		t.Logf("doctor: %s\n\t%s", f.Seen, strings.Join(lines, "\n\t"))
		s.sh(t, lines...)
		s.done.lines += len(lines)
		s.ran = append(s.ran, lines...)
	}
}

// mends are the lines that doctor's text has for each finding, which is known by its first line; comments are left out.
func mends(text string) map[string][]string {
	found := map[string][]string{}
	finding, mending := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "":
			finding, mending = "", false
		case !strings.HasPrefix(line, " "):
			_, finding, _ = strings.Cut(line, ": ")
		default:
			mending = mending || strings.HasPrefix(line, "  fix     ")
			if mending && !strings.HasPrefix(line[10:], "#") {
				found[finding] = append(found[finding], line[10:])
			}
		}
	}
	return found
}

// rules are all rules of sun, for a failure.
func (s *site) rules(t *testing.T) string {
	t.Helper()
	return s.try(t, "iptables-save -c | grep -v XFRMFW", "nft list ruleset inet | grep -v '^$' | head -n 200").Stdout
}
