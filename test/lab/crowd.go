package lab

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
)

// crowd gives sun as many further tunnels as XFRMFW_CROWD says, for tests of what becomes of one among many: policies of
// sites that nobody has reached yet, each with a peer and a network of its own. They are guarded like the others.
func (n *Network) crowd(t testing.TB) {
	t.Helper()
	many, err := strconv.Atoi(os.Getenv("XFRMFW_CROWD"))
	if err != nil || many < 1 {
		return
	}
	var b strings.Builder
	us, here := n.Sun.Outer(IPv4), n.Sun.InnerNet(IPv4)
	for i := range many {
		peer := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})
		there := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64 + byte(i>>10), byte(i >> 2), byte(i << 6)}), 26)
		for _, dir := range []string{"in", "fwd"} {
			fmt.Fprintf(&b, "xfrm policy add src %s dst %s dir %s priority 5000 tmpl src %s dst %s proto esp reqid %d mode tunnel\n", there, here, dir, peer, us, 100000+i)
		}
		fmt.Fprintf(&b, "xfrm policy add src %s dst %s dir out priority 5000 tmpl src %s dst %s proto esp reqid %d mode tunnel\n", here, there, us, peer, 100000+i)
	}
	if err := ipBatch(b.String(), "-netns", n.Sun.netns); err != nil {
		t.Fatalf("crowd: %.500v", err)
	}
}
