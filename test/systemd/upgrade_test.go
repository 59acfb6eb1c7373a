package systemd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// A stream is a hundred numbered datagrams a second through the tunnel.
type stream struct {
	name string
	from *lab.Host
	to   *lab.Inbox
	sent int
}

// run sends until end is closed.
func (s *stream) run(t *testing.T, end <-chan struct{}, done *sync.WaitGroup) {
	box := s.from.ListenUDP(t, netip.AddrPortFrom(s.from.Inner(lab.IPv4), 7003))
	done.Add(1)
	go func() {
		defer done.Done()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			if err := box.Send(s.to.Addr, strconv.Itoa(s.sent)); err != nil {
				t.Errorf("%s: %v", s.name, err)
				return
			}
			s.sent++
		}
	}()
}

// missing are the numbers that did not arrive.
func (s *stream) missing() []string {
	got := make(map[string]bool)
	for _, d := range s.to.Datagrams() {
		got[d.Payload] = true
	}
	var lost []string
	for i := range s.sent {
		if !got[strconv.Itoa(i)] {
			lost = append(lost, strconv.Itoa(i))
		}
	}
	return lost
}

// TestUpgrade puts an older package (XFRMFW_OLD_PACKAGES) in the newer's place and back,
// XFRMFW_UPGRADES times, on a machine with the iptables of XFRMFW_VARIANT that lets in only
// packets that xfrmfw accepts. With a tunnel up and a hundred packets a second each way none
// may be lost. With the tunnel down, when only the memory of the other version knows it, no
// forged one may arrive.
func TestUpgrade(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	older := os.Getenv("XFRMFW_OLD_PACKAGES")
	if older == "" {
		t.Skip("XFRMFW_OLD_PACKAGES names no folder: scripts/soak upgrade makes one")
	}
	rounds := 10
	if text := os.Getenv("XFRMFW_UPGRADES"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("XFRMFW_UPGRADES: %v", err)
		}
	}
	m := newMachine(t, bareDebian)
	packages := []string{packageIn(t, m, older, "older"), packageIn(t, m, os.Getenv("XFRMFW_PACKAGES"), "newer")}
	s := newSite(t)
	s.Sun.IP(t, "link set lan0 up", "link set wan0 up", fmt.Sprintf("route replace %s via %s", s.Moon.InnerNet(lab.IPv4), s.Moon.Outer(lab.IPv4)))
	m.boot(t, s.Sun)
	legacy := os.Getenv("XFRMFW_VARIANT") == "legacy"
	if legacy {
		variant(t, m, "legacy")
	}
	// The site lets in the attacker's forged packets, so that xfrmfw alone is in their
	// way, and nothing else.
	for _, args := range [][]string{
		{"-P", "FORWARD", "DROP"}, {"-P", "INPUT", "DROP"}, {"-A", "FORWARD", "-p", "udp", "--dport", "7000", "-j", "ACCEPT"},
	} {
		m.Run(t, "iptables", args...)
	}
	lab.Eventually(t, bootPatience, func() error {
		if s.inbox.Count("forged") == 0 {
			return fmt.Errorf("no forged packet arrived without the package")
		}
		return nil
	})
	m.Run(t, "dpkg", "-i", packages[0])
	if legacy {
		dropIn(t, m, "legacy.conf") // a copy, which stays over an upgrade
	}
	s.Up(t, lab.IPsec{})
	m.Run(t, "systemctl", "enable", "--now", "xfrmfw.service")
	settled(t, m)
	s.Alice.MustPing(t, s.Bob.Inner(lab.IPv4), 3)
	// While the policy stands the kernel itself refuses forged packets, before the rules of the older version count them.
	arrived := s.inbox.Count("forged")
	versions := map[string]bool{}
	replace := func(i int) {
		t.Helper()
		m.Run(t, "dpkg", "-i", packages[(i+1)%2])
		settled(t, m)
		versions[m.Run(t, "dpkg-query", "-W", "-f", "${Version}", "xfrmfw")] = true
	}

	end, done := make(chan struct{}), &sync.WaitGroup{}
	streams := []*stream{
		{name: "alice to bob", from: s.Alice, to: s.Bob.ListenUDP(t, netip.AddrPortFrom(s.Bob.Inner(lab.IPv4), 7002))},
		{name: "bob to alice", from: s.Bob, to: s.Alice.ListenUDP(t, netip.AddrPortFrom(s.Alice.Inner(lab.IPv4), 7002))},
	}
	for _, stream := range streams {
		stream.run(t, end, done)
	}
	for i := range 2 * rounds {
		replace(i)
	}
	close(end)
	done.Wait()
	for _, stream := range streams {
		lost := stream.missing()
		for deadline := time.Now().Add(lab.Patience); len(lost) > 0 && time.Now().Before(deadline); lost = stream.missing() {
			time.Sleep(100 * time.Millisecond) // some are under way
		}
		t.Logf("upgrade: tunnel up: %s: %d packets sent, %d lost", stream.name, stream.sent, len(lost))
		if len(lost) > 0 {
			t.Errorf("%s: lost %.500s", stream.name, strings.Join(lost, " "))
		}
	}

	s.Down(t, lab.IPsec{})
	settled(t, m)
	for i := range 2 * rounds {
		replace(i)
		if i < 2 {
			remembered(t, m)
		}
	}
	s.guarded(t, m, arrived)
	t.Logf("upgrade: %d times up and back with the tunnel up, %d with it down; %d versions; %d forged packets dropped, %d through",
		rounds, rounds, len(versions), spoofs(t, m), s.inbox.Count("forged")-arrived)
	if len(versions) != 2 {
		t.Errorf("the packages are of the versions %v, want two", versions)
	}
}

// settled waits until the rules are those that the installed version wants.
func settled(t *testing.T, m *machine) {
	t.Helper()
	lab.Eventually(t, bootPatience, func() error {
		if r := m.Try(t, "xfrmfw", "check"); r.Code != 0 {
			return fmt.Errorf("check: exit status %d: %.1000s%s", r.Code, r.Stdout, r.Stderr)
		}
		return nil
	})
}

// remembered is that the installed version guards the tunnel by the memory.
func remembered(t *testing.T, m *machine) {
	t.Helper()
	var report struct {
		Guards []struct {
			Remote string `json:"remote"`
			Source string `json:"source"`
		} `json:"guards"`
	}
	text := m.Run(t, "xfrmfw", "status", "--json")
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatal(err)
	}
	for _, guard := range report.Guards {
		if guard.Source == "memory" && guard.Remote == "10.1.0.0/24" {
			return
		}
	}
	t.Errorf("no guard of the memory for 10.1.0.0/24: %+v", report.Guards)
}
