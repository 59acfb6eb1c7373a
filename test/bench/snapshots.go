package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// snapshots compares ways to read the kernel, and ways to plan by a reading.
func snapshots(ctx context.Context, s settings) error {
	var reader kernel.Reader
	up, fewer := snapshot(s.n, false), snapshot(s.n-1, false)
	none := map[xfrm.Family]live.Tables{xfrm.IPv4: {}, xfrm.IPv6: {}}
	var all, tenth, scattered thinker
	for _, t := range []*thinker{&all, &tenth, &scattered} {
		t.tracker.Observed(none)
	}
	for _, first := range []struct {
		by *thinker
		of xfrm.Snapshot
	}{{&all, up}, {&tenth, snapshot(s.n/10, false)}, {&scattered, apart(up)}} {
		if err := first.by.think(first.of); err != nil {
			return err
		}
	}
	tenths := []xfrm.Snapshot{snapshot(s.n/10-1, false), snapshot(s.n/10, false)}
	aparts := []xfrm.Snapshot{apart(fewer), apart(up)}
	ways := []struct {
		name string
		run  func(round int) error
	}{
		{"raw", func(int) error { return rawDumps(s.objects()) }},
		{"read", func(int) error {
			got, err := reader.Read(ctx)
			if err == nil && len(got.States)+len(got.Policies) != s.objects() {
				err = fmt.Errorf("read %d states and %d policies", len(got.States), len(got.Policies))
			}
			return err
		}},
		{"ip", func(int) error {
			if err := exec.Command("ip", "xfrm", "state").Run(); err != nil {
				return err
			}
			return exec.Command("ip", "xfrm", "policy").Run()
		}},
		{"vish", func(int) error {
			if _, err := netlink.XfrmStateList(netlink.FAMILY_ALL); err != nil {
				return err
			}
			_, err := netlink.XfrmPolicyList(netlink.FAMILY_ALL)
			return err
		}},
		{"same", func(int) error { return all.think(up) }},
		{"one", func(int) error { return all.think(fewer) }},
		{"tenth", func(round int) error { return tenth.think(tenths[round%2]) }},
		{"scattered", func(round int) error { return scattered.think(aparts[round%2]) }},
		{"fresh", func(int) error {
			_, err := plan.Make(compile.Compile(input(up)).Rulesets, none)
			return err
		}},
	}
	times := make(map[string][]time.Duration)
	// The ways take turns, so that all suffer alike from a busy machine. Two turns go by
	// before any counts. After an even number of turns, each thinker is back at its first
	// snapshot.
	for round := range 2 + s.rounds {
		for _, w := range ways {
			runtime.GC()
			t, err := timed(func() error { return w.run(round) })
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			if round >= 2 {
				times[w.name] = append(times[w.name], t)
			}
		}
		// The missing tunnel is there again for the next round.
		if err := all.think(up); err != nil {
			return err
		}
	}
	t := func(name string) time.Duration { return middle(times[name]) }
	row(s.n, "snapshot", t("read"), "raw receive and header walk", t("raw"), "1.3")
	row(s.n, "snapshot", t("read"), "`ip xfrm state` + `policy`", t("ip"), "0.3")
	row(s.n, "snapshot", t("read"), "netlink's lists", t("vish"), "0.3")
	row(s.n, "Tunnels + Compile + Plan, nothing changed", t("same"), "snapshot", t("read"), "2")
	row(s.n, "Tunnels + Compile + Plan, one tunnel changed", t("one"), "snapshot", t("read"), "")
	row(s.n, "the same, no two sites neighbours", t("scattered"), "snapshot", t("read"), "")
	row(s.n, "Tunnels + Compile + Plan, one tunnel changed", t("one"), "a tenth of the tunnels", t("tenth"), "")
	row(s.n, "Tunnels + Compile + Plan, from nothing", t("fresh"), "snapshot", t("read"), "")
	return nil
}

// thinker is the state of a daemon between two looks.
type thinker struct {
	compiler compile.Compiler
	tracker  plan.Tracker
}

// think plans the changes for a snapshot, and notes them as applied.
func (t *thinker) think(s xfrm.Snapshot) error {
	change, err := t.tracker.Plan(t.compiler.Compile(inputOf(s, xfrm.Tunnels(s))).Rulesets)
	if err == nil && !change.Empty() {
		err = t.tracker.Applied(change)
	}
	return err
}

// rawDumps is the floor: the kernel itself delivers the messages.
func rawDumps(want int) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_XFRM)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, 64<<10)
	objects := 0
	for _, typ := range []uint16{0x12, 0x15} { // GETSA, GETPOLICY
		request := (&netlinkHeader{length: 16, typ: typ, flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP}).bytes()
		if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		for done := false; !done; {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				return err
			}
			for b := buf[:n]; len(b) >= 16; {
				length, typ := headerOf(b)
				if typ == unix.NLMSG_DONE || typ == unix.NLMSG_ERROR {
					done = true
				} else {
					objects++
				}
				b = b[min(len(b), (length+3)&^3):]
			}
		}
	}
	if objects != want {
		return fmt.Errorf("%d objects, want %d", objects, want)
	}
	return nil
}
