package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Crowd is the number of further tunnels of sun in each network, from XFRMFW_CROWD, for
// tests of one tunnel among many. The further tunnels are up, with policies and states of
// their own, and carry no packets.
func Crowd() int {
	many, err := strconv.Atoi(os.Getenv("XFRMFW_CROWD"))
	if err != nil || many < 0 {
		return 0
	}
	return many
}

// CrowdNets are the remote networks of the further tunnels, as status shows them.
func CrowdNets() map[string]bool {
	nets := make(map[string]bool, Crowd())
	for i := range Crowd() {
		nets[crowdNet(i).String()] = true
	}
	return nets
}

// The further tunnels have reqids from firstInCrowd on, which no test's own has.
const firstInCrowd = 100000

// crowd gives sun the further tunnels, in one process. They stay until the test ends,
// because FlushXFRM and FlushSAs leave them. The test fails if one is missing at its end,
// because it then ran without the whole crowd.
func (n *Network) crowd(t testing.TB) {
	t.Helper()
	many := Crowd()
	if many == 0 {
		return
	}
	n.Sun.crowd = many
	t.Cleanup(func() {
		if !t.Failed() {
			n.Sun.checkCrowd(t)
		}
	})
	start := time.Now()
	if err := n.Sun.Do(func() error { return n.makeCrowd(many) }); err != nil {
		t.Fatalf("crowd: %v", err)
	}
	t.Logf("sun has %d further tunnels, made in %v", many, time.Since(start).Round(time.Millisecond))
}

// makeCrowd makes the further tunnels in the network of the calling thread, which is sun's.
func (n *Network) makeCrowd(many int) error {
	b, err := newBulk()
	if err != nil {
		return err
	}
	defer b.close()
	us := n.Sun.Outer(IPv4)
	for i := range many {
		there := crowdNet(i)
		here := n.Sun.InnerNet(FamilyOf(there.Addr()))
		peer := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})
		reqid, spi := uint32(firstInCrowd+i), uint32(0x40000000+2*i)
		err := errors.Join(
			b.add(newSA, tunnelSA(peer, us, spi, reqid)),
			b.add(newSA, tunnelSA(us, peer, spi+1, reqid)),
			b.add(newPolicy, tunnelPolicy(inDir, there, here, 5000, peer, us, reqid)),
			b.add(newPolicy, tunnelPolicy(forwardDir, there, here, 5000, peer, us, reqid)),
			b.add(newPolicy, tunnelPolicy(outDir, here, there, 5000, us, peer, reqid)))
		if err != nil {
			return fmt.Errorf("up to number %d: %w", i, err)
		}
	}
	return b.send()
}

// checkCrowd fails the test if some of the host's further tunnels are gone.
func (h *Host) checkCrowd(t testing.TB) {
	t.Helper()
	count := func(object, format string, counts ...any) {
		t.Helper()
		text := h.Run(t, "ip", "xfrm", object, "count")
		if _, err := fmt.Sscanf(strings.TrimSpace(text), format, counts...); err != nil {
			t.Fatalf("ip xfrm %s count says %q: %v", object, text, err)
		}
	}
	var states, in, out, fwd int
	count("state", "SAD count %d", &states)
	count("policy", "SPD IN %d OUT %d FWD %d", &in, &out, &fwd)
	if states < 2*h.crowd || min(in, out, fwd) < h.crowd {
		t.Errorf("%s has %d states and %d, %d and %d policies in, out and fwd: the test has lost some of its %d further tunnels on the way",
			h.Name, states, in, out, fwd, h.crowd)
	}
}

// flushBesideCrowd are the ip commands that remove all SAs, and all policies if asked to, but for those of the crowd.
func (h *Host) flushBesideCrowd(t testing.TB, policies bool) (all []string) {
	t.Helper()
	if policies {
		for _, line := range h.besideCrowd(t, "policy") {
			one := "xfrm policy delete " + word(line, "dir") + " " + word(line, "index")
			if ifID := word(line, "if_id"); ifID != "" {
				one += " " + ifID
			}
			all = append(all, one+markOf(line))
		}
	}
	for _, line := range h.besideCrowd(t, "state") {
		proto, spi := word(line, "proto"), word(line, "spi")
		switch {
		case proto == "proto 4" || proto == "proto 41": // the kernel made it for IPComp, and it goes with that
		case spi == "spi 0x00000000": // a larval state, which goes by itself
		default:
			all = append(all, fmt.Sprintf("xfrm state delete %s %s %s %s", word(line, "src"), word(line, "dst"), proto, spi)+markOf(line))
		}
	}
	return all
}

// SAs are the host's security associations as ip -o xfrm state lists them, a line each, without those of the crowd.
func (h *Host) SAs(t testing.TB) []string {
	t.Helper()
	return h.besideCrowd(t, "state")
}

// besideCrowd are the lines of ip -o -s xfrm for states or policies that are not of the crowd.
func (h *Host) besideCrowd(t testing.TB, object string) (own []string) {
	t.Helper()
	for line := range strings.Lines(h.Run(t, "ip", "-o", "-s", "xfrm", object, "list")) {
		reqid, _ := strconv.Atoi(strings.TrimPrefix(word(line, "reqid"), "reqid "))
		if reqid < firstInCrowd || reqid >= firstInCrowd+h.crowd {
			own = append(own, strings.TrimSpace(line))
		}
	}
	return own
}

// word is a keyword with the word behind it, as it first stands in a line of ip -o, or nothing.
func word(line, keyword string) string {
	_, after, found := strings.Cut(strings.ReplaceAll(" "+line, "\t", " "), " "+keyword+" ")
	if !found {
		return ""
	}
	value, _, _ := strings.Cut(after, " ")
	value, _, _ = strings.Cut(strings.TrimSpace(value), "\\")
	value, _, _ = strings.Cut(value, "(") // 11(0x0000000b)
	return keyword + " " + value
}

// markOf is the mark in a line of ip -o, as a command takes it.
func markOf(line string) string {
	value, mask, found := strings.Cut(word(line, "mark"), "/")
	if !found {
		return ""
	}
	return " " + value + " mask " + mask
}

// crowdNet is the remote network of a further tunnel. Most are far from the networks of the tests; every fiftieth, as
// long as there is room, is close to alice's, and every tenth is IPv6 and close to hers: so the trees part next to it.
func crowdNet(i int) netip.Prefix {
	switch near := i / 50; {
	case i%50 == 0 && near < 240:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 8 + byte(near), 0}), 24)
	case i%10 == 1:
		near := 0x100 + i/10
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0, 1, 0, 0, byte(near >> 8), byte(near)}), 64)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64 + byte(i>>10), byte(i >> 2), byte(i << 6)}), 26)
}

// room is the time limit of a step in the lab. Without a crowd it is limit itself. It
// grows with the crowd, because a step that rewrites or lists all rules takes longer with
// their number.
func room(limit time.Duration) time.Duration { return limit + limit*time.Duration(Crowd())/1000 }
