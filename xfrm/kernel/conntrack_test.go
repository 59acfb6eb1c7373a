package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPairIndex(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	x := newPairIndex([]Pair{
		{prefix("10.2.0.0/24"), prefix("10.1.0.0/24")}, {prefix("10.2.0.0/16"), prefix("172.16.0.0/12")},
		{prefix("fd00:2::/64"), prefix("fd00:1::/64")},
	}, true)
	for _, tc := range []struct {
		local, remote, other string
		want                 bool
	}{
		{"10.2.0.5", "10.1.0.5", "192.0.2.2", true}, {"10.2.0.5", "10.1.0.5", "10.2.0.9", false},
		{"10.2.9.5", "172.17.0.5", "192.0.2.2", true}, {"10.2.9.5", "10.1.0.5", "192.0.2.2", false},
		{"10.3.0.5", "10.1.0.5", "192.0.2.2", false},
	} {
		if got := x.crosses(addr(tc.local), addr(tc.remote), addr(tc.other)); got != tc.want {
			t.Errorf("%s <-> %s, rewritten to %s: %v", tc.local, tc.remote, tc.other, got)
		}
	}
	if len(x.pairs) != 2 || len(x.lengths) != 2 {
		t.Errorf("%d pairs of %v lengths", len(x.pairs), x.lengths)
	}
}

// TestForgetRewritten fills a namespace's conntrack and deletes the entries that NAT
// rewrote: the rest stays, and the memory that it takes does not grow with the table.
func TestForgetRewritten(t *testing.T) {
	if stage := os.Getenv("XFRMFW_STAGE"); stage != "" { // a virtual machine, where ESP alone is new
		t.Skipf("left out of %s: %s", stage, t.Name())
	}
	if _, err := exec.LookPath("conntrack"); err != nil {
		t.Skip("conntrack is not installed")
	}
	netns(t)
	none := func(want bool) {
		t.Helper()
		c, err := dialTo(unix.NETLINK_NETFILTER, make([]byte, bufferSize))
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		if got := noFlows(c); got != want {
			t.Errorf("without flows: %t, want %t", got, want)
		}
	}
	none(true)
	flows := 3000
	if n, err := strconv.Atoi(os.Getenv("CONNTRACK_FLOWS")); err == nil {
		flows = n
	}
	var lines strings.Builder
	add := func(src, dst, replySrc, replyDst string, port int) {
		fmt.Fprintf(&lines, "-I -s %s -d %s -r %s -q %s -p udp --sport %d --dport 53 --reply-port-src 53 --reply-port-dst %d --timeout 1000", src, dst, replySrc, replyDst, port, port)
		if replyDst != src {
			fmt.Fprintf(&lines, " --src-nat %s", replyDst)
		}
		lines.WriteByte('\n')
	}
	for i := range flows {
		add(fmt.Sprintf("10.%d.%d.%d", 9+i/62500, i/250%250, i%250+1), fmt.Sprintf("198.51.%d.7", i/60000), fmt.Sprintf("198.51.%d.7", i/60000), "192.0.2.2", 1024+i%60000) // masqueraded, to elsewhere
	}
	add("10.2.0.5", "10.1.0.5", "10.1.0.5", "192.0.2.2", 5000)   // masqueraded on its way into the tunnel
	add("10.2.0.6", "10.1.0.5", "10.1.0.5", "10.2.0.6", 5001)    // as it is
	defer func() { _ = exec.Command("conntrack", "-F").Run() }() // for the test that runs next
	load := exec.Command("conntrack", "--load-file", "-")
	load.Stdin = strings.NewReader(lines.String())
	if out, err := load.CombinedOutput(); err != nil {
		t.Skipf("fill conntrack: %v: %.200s", err, out)
	}
	none(false)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	n, err := ForgetRewritten(context.Background(), []Pair{{netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("10.1.0.0/24")}})
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	if err != nil || n != 1 {
		t.Fatalf("deleted %d, %v", n, err)
	}
	t.Logf("%d entries took %v and %d kB", flows, took, (after.TotalAlloc-before.TotalAlloc)>>10)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("took %d bytes", grown)
	}
	out, err := exec.Command("conntrack", "-L").Output()
	if err != nil || strings.Count(string(out), "\n") != flows+1 || !strings.Contains(string(out), "src=10.2.0.6") || strings.Contains(string(out), "src=10.2.0.5") {
		t.Errorf("left are %d entries, %v", strings.Count(string(out), "\n"), err)
	}
}
