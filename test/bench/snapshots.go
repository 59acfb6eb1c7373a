package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// snapshots compares ways to read the kernel, and what follows from a reading.
func snapshots(ctx context.Context, s settings) error {
	var reader kernel.Reader
	up := snapshot(s.n, false)
	var joiner xfrm.Joiner
	var compiler firewall.Compiler
	var planner firewall.Planner
	none := map[firewall.Family]firewall.Save{xfrm.IPv4: {}, xfrm.IPv6: {}}
	first, err := planner.Plan(compiler.Compile(inputOf(up, joiner.Tunnels(up))).Rulesets, none)
	if err != nil {
		return err
	}
	have, err := first.After(none)
	if err != nil {
		return err
	}
	fewer := snapshot(s.n-1, false)
	think := func(one xfrm.Snapshot) error {
		change, err := planner.Plan(compiler.Compile(inputOf(one, joiner.Tunnels(one))).Rulesets, have)
		if err == nil && !change.Empty() {
			have, err = planner.Stands(have, change)
		}
		return err
	}
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
		{"same", func(int) error { return think(up) }},
		{"one", func(round int) error {
			if round%2 == 0 {
				return think(fewer)
			}
			return think(up)
		}},
		{"fresh", func(int) error {
			_, err := firewall.Plan(firewall.Compile(input(up)).Rulesets, none)
			return err
		}},
	}
	times := make(map[string][]time.Duration)
	// They take turns, so that all suffer alike from a busy machine. Two turns
	// go by before any counts; an even number puts back what one took away.
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
		// same is to find what one left.
		if err := think(up); err != nil {
			return err
		}
	}
	t := func(name string) time.Duration { return middle(times[name]) }
	row(s.n, "snapshot", t("read"), "raw receive and header walk", t("raw"), "1.3")
	row(s.n, "snapshot", t("read"), "`ip xfrm state` + `policy`", t("ip"), "0.3")
	row(s.n, "snapshot", t("read"), "netlink's lists", t("vish"), "0.3")
	row(s.n, "Tunnels + Compile + Plan, nothing changed", t("same"), "snapshot", t("read"), "2")
	row(s.n, "Tunnels + Compile + Plan, one tunnel changed", t("one"), "snapshot", t("read"), "")
	row(s.n, "Tunnels + Compile + Plan, from nothing", t("fresh"), "snapshot", t("read"), "")
	return nil
}

// rawDumps is the floor: what the kernel itself takes to deliver the messages.
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
