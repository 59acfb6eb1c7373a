package kernel

import (
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// BenchmarkRead compares ways to read 10,000 larval states and 30,000 policies:
//
//	raw    receive the dumps and walk the headers, nothing else
//	read   Reader.Read, with the host's facts and sorting
//	vish   XfrmStateList and XfrmPolicyList of vishvananda/netlink
//	ip     ip xfrm state and ip xfrm policy
//
// The ways take turns, so that all of them suffer alike from a busy machine. It
// reports the least time of each, and its ratio to that of raw.
func BenchmarkRead(b *testing.B) {
	if runtime.GOARCH == "386" {
		b.Skip("the filler does not know this layout")
	}
	netns(b)
	const states, policies = 10000, 30000
	f := newFiller(b)
	for n := range uint32(policies / 3) {
		for dir := range byte(3) {
			f.policy(b, n, dir)
		}
	}
	var reader Reader
	if _, err := reader.Read(b.Context()); err != nil { // finds out about modules, once
		b.Fatal(err)
	}
	ways := []struct {
		name string
		run  func() (objects int, err error)
	}{
		{"raw", rawDumps},
		{"read", func() (int, error) {
			s, err := reader.Read(b.Context())
			return len(s.States) + len(s.Policies), err
		}},
		{"vish", func() (int, error) {
			s, err := netlink.XfrmStateList(netlink.FAMILY_ALL)
			if err != nil {
				return 0, err
			}
			p, err := netlink.XfrmPolicyList(netlink.FAMILY_ALL)
			return len(s) + len(p), err
		}},
		{"ip", func() (int, error) {
			if err := exec.Command("ip", "xfrm", "state").Run(); err != nil {
				return 0, err
			}
			return states + policies, exec.Command("ip", "xfrm", "policy").Run()
		}},
	}
	times := make([][]time.Duration, len(ways))
	var filled time.Time
	for b.Loop() {
		// The kernel drops larval states after 30 seconds.
		if time.Since(filled) > 10*time.Second {
			ip(b, "xfrm state flush")
			for n := range uint32(states) {
				f.state(b, n)
			}
			filled = time.Now()
		}
		for i, w := range ways {
			runtime.GC()
			start := time.Now()
			n, err := w.run()
			times[i] = append(times[i], time.Since(start))
			if err != nil || n != states+policies {
				b.Fatalf("%s: %d objects, %v", w.name, n, err)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // the sum of all ways says nothing
	raw := slices.Min(times[0])
	for i, w := range ways {
		least := slices.Min(times[i])
		b.ReportMetric(float64(least.Microseconds())/1000, w.name+"-ms")
		if i > 0 {
			b.ReportMetric(float64(least)/float64(raw), w.name+"/raw")
		}
	}
}

// rawDumps is the floor: the kernel itself delivers the messages.
func rawDumps() (objects int, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_XFRM)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for _, typ := range []uint16{0x12, 0x15} { // GETSA, GETPOLICY
		request := make([]byte, 16)
		native.PutUint32(request, 16)
		native.PutUint16(request[4:], typ)
		native.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return 0, err
		}
		for done := false; !done; {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				return 0, err
			}
			for b := buf[:n]; len(b) >= 16; b = b[min(len(b), int(native.Uint32(b)+3)&^3):] {
				if t := native.Uint16(b[4:]); t == unix.NLMSG_DONE || t == unix.NLMSG_ERROR {
					done = true
				} else {
					objects++
				}
			}
		}
	}
	return objects, nil
}
