package soak

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// How often each thing happens.
const (
	rekeys   = 50
	applies  = 20
	restarts = 20
	meddling = 20
)

// used is a state that packets went through, as ip prints it.
var used = regexp.MustCompile(`[1-9][0-9]*\(bytes\), [1-9][0-9]*\(packets\)`)

// TestTraffic sends a hundred packets a second each way through a tunnel between gateways
// that let in only packets that xfrmfw accepts, while the tunnel is rekeyed, rules are
// applied, the daemon is stopped and killed, and another program changes rules of its
// own. The firewall may lose none.
func TestTraffic(t *testing.T) {
	n := lab.NewNetwork(t)
	tunnel := lab.IPsec{}
	for _, g := range n.Gateways() {
		for _, f := range lab.Families {
			g.Iptables(t, f, "-P", "INPUT", "DROP")
			g.Iptables(t, f, "-P", "FORWARD", "DROP")
		}
		g.Rules(t, lab.IPv4, "filter", ":FOREIGN - [0:0]", "-A FORWARD -j FOREIGN", "-A FOREIGN -s 198.51.100.0/24 -j DROP")
	}
	n.Up(t, tunnel)
	for _, g := range n.Gateways() {
		g.MustXfrmfw(t, "apply")
	}
	bob, alice := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(lab.IPv4), 7000)), n.Alice.ListenUDP(t, netip.AddrPortFrom(n.Alice.Inner(lab.IPv4), 7000))
	n.Alice.MustPing(t, n.Bob.Inner(lab.IPv4), 3)
	begin := time.Now()
	streams := []*lab.Stream{n.Alice.Stream(t, "to bob", bob), n.Bob.Stream(t, "to alice", alice)}

	daemon := n.Sun.StartXfrmfw(t, "daemon")
	counts := map[string]int{}
	for i := range rekeys {
		rekey(t, n, tunnel, i)
		counts["rekeys"]++
		if i%5 < 2 && counts["applies"] < applies {
			// Another tunnel comes or goes, so that there is something to write.
			other := lab.IPsec{Reqid: uint32(100 + i), MoonNets: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.77.%d.0/24", i))}}
			n.Up(t, other)
			n.Sun.MustXfrmfw(t, "apply")
			counts["applies"]++
			if i%5 == 1 {
				n.Down(t, other)
			}
		}
		if i%5 > 2 && counts["daemon restarts"] < restarts {
			if i%2 == 0 {
				daemon.Signal(t, syscall.SIGKILL)
				daemon.Wait(t, lab.Patience)
			} else {
				daemon.Stop(t)
			}
			daemon = n.Sun.StartXfrmfw(t, "daemon")
			counts["daemon restarts"]++
		}
		if i%5 != 2 && counts["foreign changes"] < meddling {
			n.Sun.Iptables(t, lab.IPv4, "-F", "FOREIGN")
			n.Sun.Iptables(t, lab.IPv4, "-t", "nat", "-I", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
			n.Sun.Iptables(t, lab.IPv4, "-A", "FOREIGN", "-s", "198.51.100.0/24", "-j", "DROP")
			n.Sun.Iptables(t, lab.IPv4, "-t", "nat", "-D", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
			counts["foreign changes"]++
		}
	}
	for _, s := range streams {
		s.Stop()
	}
	took := time.Since(begin)
	for _, s := range streams {
		lost := s.Lost()
		if len(lost) > 0 {
			t.Errorf("%s lost %d of %d: %v", s.Name, len(lost), s.Sent, lost[:min(len(lost), 50)])
		}
		t.Logf("traffic: %s: %d sent in %s, %d lost", s.Name, s.Sent, took.Round(time.Second), len(lost))
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("traffic: %d %s", counts[what], what)
	}
	for _, g := range n.Gateways() {
		var r struct {
			Drops map[string]struct {
				Packets int `json:"packets"`
			} `json:"drops"`
		}
		if err := json.Unmarshal([]byte(g.MustXfrmfw(t, "status", "--json")), &r); err != nil {
			t.Fatal(err)
		}
		total := 0
		for name, d := range r.Drops {
			total += d.Packets
			if d.Packets != 0 {
				t.Errorf("%s dropped %d packets as %s", g.Name, d.Packets, name)
			}
		}
		t.Logf("traffic: %s dropped %d; the kernel's own: %s", g.Name, total, kernelDrops(g.Run(t, "cat", "/proc/net/xfrm_stat")))
	}
}

// kernelDrops are the counters of /proc/net/xfrm_stat that are not zero.
func kernelDrops(text string) string {
	var all []string
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) == 2 && words[1] != "0" {
			all = append(all, words[0]+" "+words[1])
		}
	}
	return strings.Join(append(all, "none else"), ", ")
}

// rekey replaces the tunnel's states as IKE daemons do: none sends with a state that its peer has not got, and the old
// ones stay until both send with the new.
func rekey(t *testing.T, n *lab.Network, c lab.IPsec, generation int) {
	t.Helper()
	old, fresh := n.Rekeyed(c, generation), n.Rekeyed(c, generation+1)
	n.Moon.AddSAs(t, fresh[0])
	n.Sun.AddSAs(t, fresh[1])
	n.Moon.AddSAs(t, fresh[1])
	n.Sun.AddSAs(t, fresh[0])
	for _, h := range n.Gateways() {
		for _, sa := range fresh {
			lab.Eventually(t, lab.Patience, func() error {
				text := h.Run(t, "ip", "-s", "xfrm", "state", "get", "src", sa.Src.String(), "dst", sa.Dst.String(), "proto", "esp", "spi", fmt.Sprintf("%#x", sa.SPI))
				if !used.MatchString(text) {
					return fmt.Errorf("%s: no packet with the SPI %#x yet:\n%s", h.Name, sa.SPI, text)
				}
				return nil
			})
		}
	}
	time.Sleep(300 * time.Millisecond) // for packets on the wire with the old ones
	for _, g := range n.Gateways() {
		g.DeleteSAs(t, old...)
	}
}
