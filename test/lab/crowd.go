package lab

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Crowd is how many further tunnels sun has in each network, from XFRMFW_CROWD: for tests of what becomes of one tunnel
// among many. They are up, with policies and states of their own, and nobody sends through them.
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

// Crowd gives sun the further tunnels, in one process. NewNetwork has done so; a test that flushes sun's states and
// policies calls it again, or what comes after that is without them.
func (n *Network) Crowd(t testing.TB) {
	t.Helper()
	many := Crowd()
	if many == 0 {
		return
	}
	start := time.Now()
	var b strings.Builder
	us := n.Sun.Outer(IPv4)
	for i := range many {
		there := crowdNet(i)
		here := n.Sun.InnerNet(FamilyOf(there.Addr()))
		peer := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})
		reqid, spi := uint32(100000+i), uint32(0x40000000+2*i)
		for _, sa := range []SA{{Src: peer, Dst: us, SPI: spi, Reqid: reqid}, {Src: us, Dst: peer, SPI: spi + 1, Reqid: reqid}} {
			b.WriteString(sa.line() + "\n")
		}
		in := Policy{Dir: "in", Src: there, Dst: here, Priority: 5000, Templates: []Template{{Src: peer, Dst: us, Reqid: reqid}}}
		fwd := in
		fwd.Dir = "fwd"
		out := Policy{Dir: "out", Src: here, Dst: there, Priority: 5000, Templates: []Template{{Src: us, Dst: peer, Reqid: reqid}}}
		for _, p := range []Policy{in, fwd, out} {
			b.WriteString(p.line() + "\n")
		}
	}
	if err := ipBatch(b.String(), "-netns", n.Sun.netns); err != nil {
		t.Fatalf("crowd: %.500v", err)
	}
	t.Logf("sun has %d further tunnels, made in %v", many, time.Since(start).Round(time.Millisecond))
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

// room is how long something may take in the lab that is to take no longer than limit where there is no crowd: what
// rewrites or lists all rules takes longer with their number.
func room(limit time.Duration) time.Duration { return limit + limit*time.Duration(Crowd())/1000 }
