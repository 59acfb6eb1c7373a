package main

import (
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/accept"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// packetCase is one kind of packet that goes through the gateways.
type packetCase struct {
	what string
	// from and back choose the namespaces of the two ends.
	from, back func(gateway) namespace
	src, dst   netip.Addr
	fresh      bool
	// ways are where the packet passes rules, the outer one of ESP too.
	ways func(n int) []way
}

func atWAN(g gateway) namespace  { return g.wan }
func atSelf(g gateway) namespace { return g.self }
func atLAN(g gateway) namespace  { return g.lan }

// plain is a datagram as rules see it.
func plain(src, dst netip.Addr, in, out string, fresh bool) trace.Packet {
	p := trace.Packet{Src: src, Dst: dst, In: in, Out: out, Proto: xfrm.UDP, SPort: flowPort, DPort: flowPort, DstLocal: dst == wanAddr.Addr()}
	if !fresh {
		p.Ct.State = rules.CtEstablished
	}
	return p
}

// cleartext are packets that are no tunnel's, some of them from or to a network beside those of n tunnels.
func cleartext(n int) []packetCase {
	var cases []packetCase
	for _, fresh := range []bool{true, false} {
		add := func(what string, from, back func(gateway) namespace, src, dst netip.Addr, in, out string, hooks []hook) {
			name := map[bool]string{true: "new flow", false: "known flow"}[fresh]
			ways := func(int) []way { return []way{{plain(src, dst, in, out, fresh), hooks}} }
			cases = append(cases, packetCase{"cleartext " + what + ", " + name, from, back, src, dst, fresh, ways})
		}
		add("forwarded", atWAN, atLAN, internet, lanHost, "wan0", "lan0", forwards)
		add("to the host", atWAN, atSelf, internet, wanAddr.Addr(), "wan0", "", ins)
		add("from within guarded prefixes", atWAN, atLAN, beside(n), lanHost, "wan0", "lan0", forwards)
		add("to within guarded prefixes", atLAN, atWAN, lanHost, beside(n), "lan0", "wan0", forwards)
	}
	return cases
}

// reach is the ratio that is aimed at.
func (c packetCase) reach(variant string, off bool) string {
	switch {
	case strings.HasSuffix(c.what, "dropped"):
		return ""
	case strings.Contains(c.what, "ESP") && off:
		return "1.10"
	case strings.Contains(c.what, "ESP"):
		return "flat"
	case off:
		return "1.06"
	case variant == "nft":
		return "1.6"
	}
	return "1.25"
}

// inESP are packets of a tunnel.
func inESP(n int) []packetCase {
	far := gateway{}.remote(n)
	path := []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid(n / 2), Src: peer(n / 2), Dst: wanAddr.Addr()}}
	unwrapped := func(n int) []way {
		outer := plain(peer(n/2), wanAddr.Addr(), "wan0", "", false)
		outer.Proto = xfrm.ESP
		inner := plain(far, lanHost, "wan0", "lan0", false)
		inner.SecPath, inner.Mark = path, firewall.DefaultMarks().Tag
		return []way{{outer, ins}, {inner, forwards}}
	}
	wrapped := func(n int) []way {
		inner := plain(lanHost, far, "lan0", "wan0", false)
		inner.OutBundle = path
		outer := plain(wanAddr.Addr(), peer(n/2), "", "wan0", false)
		outer.Proto, outer.SrcLocal = xfrm.ESP, true
		return []way{{inner, forwards}, {outer, outs}}
	}
	foreign := func(n int) []way {
		ways := unwrapped(n)
		ways[1].packet.Src = crosser
		return ways
	}
	return []packetCase{
		{"out of ESP, from no address of its tunnel's, dropped", atWAN, atLAN, crosser, lanHost, false, foreign},
		{"out of ESP and forwarded, known flow", atWAN, atLAN, far, lanHost, false, unwrapped},
		{"forwarded into ESP, known flow", atLAN, atWAN, lanHost, far, false, wrapped},
	}
}

// level is a gateway with its rules.
type level struct {
	name string
	gateway
	rules            walker
	flows, near, far int
}

// packets measures the cost of a packet on gateways of several sizes.
func packets(s settings, variant string) error {
	if err := pin(); err != nil {
		return err
	}
	if s.real { // or work that is put off while this sends would pile up
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
			return err
		}
		// In user-mode Linux a process can have 65,530 separate pages at most, by the
		// host's vm.max_map_count.
		debug.SetGCPercent(50)
	}
	for _, n := range s.sizes() {
		if err := s.packetsOf(variant, n); err != nil {
			return fmt.Errorf("%s, %d tunnels: %w", variant, n, err)
		}
	}
	return nil
}

// sizes are the numbers of tunnels with which packets are measured.
func (s settings) sizes() []int {
	var sizes []int
	for _, n := range []int{10, 1000} {
		if n < s.n {
			sizes = append(sizes, n)
		}
	}
	return append(sizes, s.n)
}

func (s settings) packetsOf(variant string, n int) error {
	// Empty tables hold no rules either, but they have the kernel follow flows, as every
	// firewall does that knows replies. Our rules add their cost to that.
	levels := []level{{name: "no rules"}, {name: "empty tables"}, {name: "guards off"}, {name: "guards on"}}
	if variant == "nft" {
		levels = append(levels, level{name: "nftables engine"})
	}
	for i := range levels {
		l := &levels[i]
		var err error
		if l.gateway, err = newGateway(s, n); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		defer l.close()
		switch i {
		case 1:
			err = l.empty(variant)
		case 2, 3:
			// Policies of "level use" have no guards.
			in := input(snapshot(n, i == 2))
			in.Host.NoIPv6 = true
			rs := compile.Compile(in).Rulesets[0]
			l.rules = newWalker(rs)
			err = l.apply(s, variant, rs)
		case 4:
			in := input(snapshot(n, false))
			in.Host.NoIPv6 = true
			f := decide.Facts(in)
			if err = l.self.run(func() error { return inForce(program.Table(&f, program.Options{})) }); err == nil {
				err = l.apply(s, variant, accept.Rulesets(f)[0])
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		for _, at := range []struct {
			where namespace
			addr  netip.Addr
			fd    *int
		}{{l.wan, internet, &l.far}, {l.wan, l.remote(n), &l.far}, {l.wan, beside(n), &l.far}, {l.self, wanAddr.Addr(), &l.near}, {l.lan, lanHost, &l.near}} {
			err := at.where.run(func() error { *at.fd, err = sink(at.addr); return err })
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
		}
		err = l.self.run(func() error {
			l.flows, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
			return err
		})
		if err != nil {
			return err
		}
	}
	debug.FreeOSMemory()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	cases := cleartext(n)
	if s.real {
		cases = inESP(n)
	}
	for _, c := range cases {
		if err := s.packetCase(variant, n, c, levels); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
	}
	return nil
}

// packetCase measures one kind of packet, and prints its rows.
func (s settings) packetCase(variant string, n int, c packetCase, levels []level) error {
	senders := make([]*flowSender, len(levels))
	start := make([]int, len(levels))
	for i, l := range levels {
		err := c.from(l.gateway).run(func() (err error) {
			if senders[i], err = newFlowSender(flow{c.src, c.dst, c.fresh}); err == nil {
				senders[i].yields = s.real
			}
			return err
		})
		if err != nil {
			return err
		}
		defer senders[i].close()
		if !c.fresh { // an answer makes the flow known
			if err := senders[i].burst(); err != nil {
				return err
			}
			err := c.back(l.gateway).run(func() error {
				back, err := newFlowSender(flow{c.dst, c.src, false})
				if err != nil {
					return err
				}
				defer back.close()
				return back.burst()
			})
			if err != nil {
				return err
			}
			senders[i].sent = 0
		}
		err = l.self.run(func() (err error) { start[i], err = passed(); return err })
		if err != nil {
			return err
		}
	}
	costs, err := s.schedule().measure(senders, func(i int) error {
		if c.fresh {
			return forgetFlows(levels[i].flows)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, l := range levels {
		err := l.self.run(func() error {
			end, err := passed()
			if got := end - start[i]; err == nil && got < senders[i].sent*98/100 {
				err = fmt.Errorf("%s: only %d of %d packets got through", l.name, got, senders[i].sent)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for i := range levels[1:] {
		if i == 3 { // the nftables engine
			reach := "1"
			if n <= 10 {
				reach = "1.05"
			}
			engine := cost{ns: costs[i+1].ns, ratio: costs[i+1].ratio / costs[i].ratio}
			packetRow(n, c.what+", "+levels[i+1].name, engine, levels[i].name, costs[i], reach)
			continue
		}
		reach := ""
		if i > 0 {
			reach = c.reach(variant, i == 1)
		}
		packetRow(n, variant+": "+c.what+", "+levels[i+1].name, costs[i+1], levels[0].name, costs[0], reach)
		if i > 0 {
			fmt.Printf("<!-- %s -->\n", levels[i+1].rules.told(c.ways(n)))
		}
	}
	return nil
}

func (s settings) schedule() schedule {
	plan := schedule{passes: s.rounds, windows: 120, window: 2 * time.Millisecond}
	switch {
	case s.real: // all is slower there
		plan.windows, plan.window, plan.paired = 60, 4*time.Millisecond, true
	case s.n < 1000:
		plan.windows = 40
	}
	return plan
}

func packetRow(n int, what string, took cost, against string, floor cost, reach string) {
	fmt.Printf("| %s | %d | %.0f ns | %s | %.0f ns | %.3f | %s |\n", what, n, took.ns, against, floor.ns, took.ratio, reach)
}
