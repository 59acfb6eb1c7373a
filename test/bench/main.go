// Command bench measures the cost of many tunnels, each figure beside one to compare it
// with, in one run. scripts/bench starts it, once for each part, in network namespaces of
// their own. It changes nothing outside of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	var s settings
	flag.IntVar(&s.n, "n", 10000, "tunnels")
	flag.IntVar(&s.rounds, "rounds", 5, "times that each figure is taken, of which the median is shown")
	flag.IntVar(&s.storm, "updown-calls", 1000, "calls of the stock script")
	flag.StringVar(&s.xfrmfw, "xfrmfw", "", "the program")
	flag.StringVar(&s.updown, "updown", "", "strongSwan's _updown script")
	flag.BoolVar(&s.real, "real", false, "tunnels have pairs of states with keys, as in a virtual machine")
	flag.Parse()
	if err := run(context.Background(), s, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, part string) error {
	var err error
	if s.dir, err = os.MkdirTemp("", "xfrmfw-bench."); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(s.dir) }()
	if name, variant, ok := strings.Cut(part, ":"); ok && name == "packets" {
		return packets(s, variant)
	}
	following, engineOf, _ := strings.Cut(part, ":")
	if following == "follow" { // with tunnels that come by and by, and none besides
		s.n = 0
	}
	if err := prepare(s); err != nil {
		return err
	}
	switch {
	case following == "follow":
		return follow(ctx, s, engineOf)
	case part == "snapshot":
		return snapshots(ctx, s)
	}
	if engine, ok := strings.CutPrefix(part, "guards:"); ok {
		return guards(ctx, s, engine)
	}
	if name, only, _ := strings.Cut(part, ":"); name == "engine" {
		return engine(ctx, s, only)
	}
	if name, only, _ := strings.Cut(part, ":"); name == "nft" || name == "legacy" {
		v := variant{settings: s, name: name}
		return v.measure(ctx, only)
	}
	return fmt.Errorf("no part %q: use snapshot, nft, legacy, engine, follow, guards or packets", part)
}

// prepare makes the gateway in this process's own network namespace.
func prepare(s settings) error {
	if links, err := net.Interfaces(); err != nil || len(links) > 1 {
		return fmt.Errorf("this is no network namespace of its own: use scripts/bench")
	}
	if err := os.WriteFile("/proc/sys/net/core/xfrm_acq_expires", []byte("100000"), 0o644); err != nil {
		return err
	}
	script := []string{
		"link set lo up", "link add wan0 type veth peer name wan1", "link add lan0 type veth peer name lan1",
		"link set wan0 up", "link set wan1 up", "link set lan0 up", "link set lan1 up",
		"addr add " + wanAddr.String() + " dev wan0", "addr add " + lanAddr.String() + " dev lan0", "route add default via " + router.String(),
	}
	for i := range s.n {
		script = append(script, addPolicies(i)...)
		if s.real {
			script = append(script, addStates(i)...)
			continue
		}
		script = append(script, fmt.Sprintf("xfrm state allocspi src %s dst %s proto esp reqid %d mode tunnel min %#x max %#x",
			peer(i), wanAddr.Addr(), reqid(i), 0x1000+i, 0x1000+i))
	}
	return batch(s, script)
}
