package operator

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestExplain sends random packets, in clear and through tunnels, into, through and out
// of a gateway, and compares the kernel's treatment of each with xfrmfw explain: all
// counters of all rules, the packets that arrived and those on the wire, those that were
// returned to the rest of the firewall, and those that the kernel itself dropped by its
// policies.
//
// The seed is printed; XFRMFW_SEED repeats a run, and XFRMFW_PACKETS says how many packets there are.
func TestExplain(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	seed := number(t, "XFRMFW_SEED", uint64(time.Now().UnixNano()))
	packets := int(number(t, "XFRMFW_PACKETS", 300))
	t.Logf("seed %d", seed)
	n := lab.NewNetwork(t)
	c := comparison{Network: n, rand: rand.New(rand.NewPCG(seed, 0)), explained: make(map[string]explanation), portless: make(map[[2]netip.Addr]bool), rules: make(map[string]string)}
	tunnels := []lab.IPsec{{Reqid: 11, Priority: 1000}, {Reqid: 12, Priority: 1000, Inner: lab.IPv6}}
	for _, tunnel := range tunnels {
		n.Up(t, tunnel)
		// moon encrypts more than sun's policies own: packets that sun calls crossed.
		f := max(tunnel.Inner, lab.IPv4)
		for _, p := range n.Policies(n.Moon, tunnel) {
			if p.Dir == "out" {
				p.Src, p.Priority = wider(n.Alice.InnerNet(f)), 2000
				n.Moon.AddPolicies(t, p)
			}
		}
	}
	c.quiet(t)

	c.config(t, "log: \"off\"\nguard: {remember: \"off\"}\ntunnels:\n  - match: {reqid: 11}\n    name: office\n"+
		"    in: [tcp/22, udp/5000-5999, icmp]\n    out: [tcp/443, udp/5000-5999, icmp]\n")
	up := c.run(t, "up", packets/2, c.mallory, c.tunnelled, c.bob, c.own)

	// Policies without states: those of a trap, and those left when an IKE daemon dies.
	n.Sun.FlushSAs(t)
	c.config(t, "log: \"off\"\nguard: {remember: \"off\"}\n")
	trap := c.run(t, "trap", packets/4, c.mallory, c.bob, c.own)

	for _, g := range n.Gateways() {
		g.FlushXFRM(t)
	}
	var pairs []string
	for _, f := range lab.Families {
		pairs = append(pairs, fmt.Sprintf("{local: %q, remote: %q}", n.Bob.InnerNet(f), n.Alice.InnerNet(f)))
	}
	c.config(t, "log: \"off\"\nguard: {remember: \"off\", pairs: ["+strings.Join(pairs, ", ")+"]}\n")
	down := c.run(t, "down", packets/4, c.mallory, c.bob, c.own)

	t.Logf("compared %d packets, by case %s; %d counters of rules; %d differences", up+trap+down, c.cases(), c.counters, c.differences)
	for _, number := range []string{"1", "6", "6b", "7", "8", "9", "restricted"} {
		if c.by[number] == 0 {
			t.Errorf("no packet was of case %s: too few kinds of packets", number)
		}
	}
}

// number is a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	given := os.Getenv(name)
	if given == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(given, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// wider is the network around a protected one.
func wider(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(p.Addr(), p.Bits()-min(p.Bits()/3, 16)).Masked()
}

// A comparison sends packets to, through and out of sun.
type comparison struct {
	*lab.Network
	rand      *rand.Rand
	sent      int
	snapshot  string
	explained map[string]explanation
	// portless has the pairs of addresses of packets with a flow that has nothing but its
	// addresses to tell it by.
	portless map[[2]netip.Addr]bool

	rules                 map[string]string // by ID
	by                    map[string]int
	counters, differences int
}

// explanation is the part of explain --json that the test reads.
type explanation struct {
	Packet struct {
		Way string `json:"way"`
		Out string `json:"out"`
	} `json:"packet"`
	Policies []struct {
		Dir    string `json:"dir"`
		Effect string `json:"effect"`
	} `json:"policies"`
	Steps []struct {
		ID        string `json:"id"`
		Table     string `json:"table"`
		Unreached bool   `json:"unreached"`
	} `json:"steps"`
	Verdict struct {
		Action  string `json:"action"`
		By      string `json:"by"`
		Case    string `json:"case"`
		Name    string `json:"name"`
		Counter string `json:"counter"`
	} `json:"verdict"`
}

func (e explanation) passes() bool {
	return e.Verdict.Action == "accept" || e.Verdict.Action == "return"
}

func (e explanation) encrypted() bool {
	return slices.ContainsFunc(e.Policies, func(p struct {
		Dir    string `json:"dir"`
		Effect string `json:"effect"`
	}) bool {
		return p.Dir == "out" && p.Effect == "will be encrypted"
	})
}

// A sample is one packet: its sender, and the questions to explain about the packets that
// sun sees.
type sample struct {
	from  *lab.Host
	raw   lab.Packet
	key   string
	ask   string // about the packet itself
	outer string // about the ESP packet that brings it, if one does
	esp   string // about the ESP packet that it leaves in, if it does
}

// quiet keeps the hosts from sending anything by themselves: answers, errors, and neighbour discovery.
func (c *comparison) quiet(t *testing.T) {
	t.Helper()
	all := []*lab.Host{c.Alice, c.Moon, c.Sun, c.Bob, c.Mallory}
	for _, f := range lab.Families {
		c.Mallory.IP(t, fmt.Sprintf("route replace %s via %s", c.Alice.InnerNet(f), c.Sun.Outer(f)))
		for _, peer := range []*lab.Host{c.Moon, c.Mallory} {
			c.Sun.MustPing(t, peer.Outer(f), 1)
		}
		c.Sun.MustPing(t, c.Bob.Inner(f), 1)
		c.Alice.MustPing(t, c.Bob.Inner(f), 1)
	}
	for _, h := range all {
		var pin []string
		for line := range strings.Lines(h.Run(t, "ip", "neigh", "show")) {
			// ADDRESS dev DEVICE lladdr MAC STATE
			if w := strings.Fields(line); len(w) > 4 && w[3] == "lladdr" {
				pin = append(pin, fmt.Sprintf("neigh replace %s dev %s lladdr %s nud permanent", w[0], w[2], w[4]))
			}
		}
		if len(pin) == 0 {
			t.Fatalf("%s knows no neighbours", h.Name)
		}
		h.IP(t, pin...)
		h.Sysctl(t, "net/ipv4/icmp_echo_ignore_all=1", "net/ipv6/icmp/echo_ignore_all=1")
	}
	for _, h := range all {
		h.Rules(t, lab.IPv4, "raw", "-A OUTPUT -p tcp --tcp-flags RST RST -j DROP", "-A OUTPUT -p icmp --icmp-type 3 -j DROP",
			"-A OUTPUT -p icmp --icmp-type 5 -j DROP", "-A OUTPUT -p icmp --icmp-type 11 -j DROP", "-A OUTPUT -p icmp --icmp-type 12 -j DROP")
		h.Rules(t, lab.IPv6, "raw", "-A OUTPUT -p tcp --tcp-flags RST RST -j DROP", "-A OUTPUT -p icmpv6 --icmpv6-type 1 -j DROP",
			"-A OUTPUT -p icmpv6 --icmpv6-type 2 -j DROP", "-A OUTPUT -p icmpv6 --icmpv6-type 3 -j DROP",
			"-A OUTPUT -p icmpv6 --icmpv6-type 4 -j DROP", "-A OUTPUT -p icmpv6 --icmpv6-type 137 -j DROP")
	}
	for _, f := range lab.Families {
		c.Sun.Rules(t, f, "filter", "-A INPUT -m comment --comment the-rest -j ACCEPT", "-A FORWARD -m comment --comment the-rest -j ACCEPT")
	}
}

// config gives sun a configuration, applies it, and takes the snapshot that explain reads.
func (c *comparison) config(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.Sun.EtcDir(), "xfrmfw.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Sun.MustXfrmfw(t, "apply")
	c.snapshot = filepath.Join(t.TempDir(), "snapshot.json")
	if err := os.WriteFile(c.snapshot, []byte(c.Sun.MustXfrmfw(t, "snapshot")), 0o644); err != nil {
		t.Fatal(err)
	}
	clear(c.explained)
}

// run sends packets of the given kinds and compares, some at a time.
func (c *comparison) run(t *testing.T, name string, count int, kinds ...func(lab.Family) sample) int {
	t.Helper()
	const batch = 25
	samples := make([]sample, 0, count)
	for len(samples) < count {
		f := lab.Families[c.rand.IntN(len(lab.Families))]
		samples = append(samples, kinds[len(samples)%len(kinds)](f))
	}
	begin := time.Now()
	c.explain(t, samples)
	t.Logf("%s: %d explanations in %v", name, len(c.explained), time.Since(begin).Round(time.Second))
	bob, wire := c.Bob.Capture(t, "eth0"), c.WAN.Capture(t, "sun0")
	before := c.read(t)
	want := make(counts)
	for part := range slices.Chunk(samples, batch) {
		for _, s := range part {
			c.expect(s, want)
			if s.from != c.Sun {
				s.from.SendRaw(t, s.raw)
				continue
			}
			if err := s.from.SendOwn(s.raw); err != nil && c.explained[s.ask].passes() {
				t.Errorf("%s: %s: explain says that it passes, and sending fails: %v", name, s.ask, err)
				c.differences++
			}
		}
		// Counters are read until they are as expected; more than expected shows with the next part.
		var diff []string
		deadline := time.Now().Add(lab.Patience)
		for {
			if diff = want.differences(before, c.read(t), c.rules); len(diff) == 0 || time.Now().After(deadline) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if len(diff) > 0 {
			c.differences += len(diff)
			var asked []string
			for _, s := range part {
				v := c.explained[s.ask].Verdict
				asked = append(asked, fmt.Sprintf("%s: %s by %s, case %s %s", s.ask, v.Action, v.By, v.Case, v.Name))
			}
			t.Fatalf("%s: the kernel counted otherwise than explained:\n%s\npackets:\n%s", name, strings.Join(diff, "\n"), strings.Join(asked, "\n"))
		}
	}
	c.counters += len(before)
	c.arrivals(t, name, samples, bob, wire)
	return len(samples)
}

// explain asks about all packets, two at a time.
func (c *comparison) explain(t *testing.T, samples []sample) {
	t.Helper()
	asked := make(map[string]bool)
	for _, s := range samples {
		for _, question := range []string{s.ask, s.outer, s.esp} {
			if question != "" {
				asked[question] = true
			}
		}
	}
	questions := make(chan string)
	var mu sync.Mutex
	var work sync.WaitGroup
	for range 2 {
		work.Add(1)
		go func() {
			defer work.Done()
			for question := range questions {
				args := append([]string{"explain", "--json", "--snapshot", c.snapshot}, strings.Fields(question)...)
				result := c.Sun.Xfrmfw(t, args...)
				var e explanation
				if err := json.Unmarshal([]byte(result.Stdout), &e); err != nil || result.Code != 0 {
					t.Errorf("explain %s: exit status %d, %v\n%s", question, result.Code, err, result.Stderr)
				}
				mu.Lock()
				c.explained[question] = e
				mu.Unlock()
			}
		}()
	}
	for question := range asked {
		questions <- question
	}
	close(questions)
	work.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
