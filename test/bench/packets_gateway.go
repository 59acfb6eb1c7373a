package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// namespace is a network namespace, held open by a file.
type namespace int

// newNamespace makes one. The thread goes back to where it was.
func newNamespace() (namespace, error) {
	back, err := thisNamespace()
	if err != nil {
		return 0, err
	}
	defer back.close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return 0, fmt.Errorf("make a network namespace: %w", err)
	}
	n, err := thisNamespace()
	if err != nil {
		return 0, err
	}
	return n, unix.Setns(int(back), unix.CLONE_NEWNET)
}

func thisNamespace() (namespace, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return namespace(fd), err
}

func (n namespace) close() { _ = unix.Close(int(n)) }

// path is how other programs find it.
func (n namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n) }

// run has f run with this thread in the namespace: the caller has locked it.
func (n namespace) run(f func() error) error {
	back, err := thisNamespace()
	if err != nil {
		return err
	}
	defer back.close()
	if err := unix.Setns(int(n), unix.CLONE_NEWNET); err != nil {
		return err
	}
	failed := f()
	if err := unix.Setns(int(back), unix.CLONE_NEWNET); err != nil {
		return err
	}
	return failed
}

// The hosts beside the gateway: one behind the uplink, which is the other end of
// a tunnel too, and one in the LAN.
var (
	internet = netip.MustParseAddr("203.0.113.9")
	lanHost  = netip.MustParseAddr("172.16.1.9")
	// crosser is an address at the tunnel's other end that is not in its selectors.
	crosser = netip.MustParseAddr("198.18.0.9")
)

// gateway is one under measurement, with the namespaces at both of its ends.
type gateway struct {
	wan, self, lan namespace
}

// newGateway makes a gateway with the policies of n tunnels, and with states if
// they are to be real; then one of the tunnels ends in wan.
func newGateway(s settings, n int) (gateway, error) {
	var g gateway
	for _, at := range []*namespace{&g.wan, &g.self, &g.lan} {
		var err error
		if *at, err = newNamespace(); err != nil {
			return g, err
		}
	}
	remote := g.remote(n)
	// Neighbours are fixed, so that the kernel asks for none. The LAN's neighbour has no
	// host behind it: a packet to it has been through all of the gateway, and ends.
	const wanMAC, selfMAC, lanMAC, nobody = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:99"
	self := []string{
		"link set lo up",
		"link add wan0 address " + selfMAC + " type veth peer name wan1 address " + wanMAC + " netns " + g.wan.path(),
		"link add lan0 address " + selfMAC + " type veth peer name lan1 address " + lanMAC + " netns " + g.lan.path(),
		"link set wan0 up", "link set lan0 up", "addr add " + wanAddr.String() + " dev wan0", "addr add " + lanAddr.String() + " dev lan0",
		"neigh add " + router.String() + " lladdr " + wanMAC + " dev wan0 nud permanent",
		"neigh add " + lanHost.String() + " lladdr " + nobody + " dev lan0 nud permanent",
		"route add default via " + router.String(),
	}
	wan := []string{
		"link set lo up", "link set wan1 up", "addr add " + router.String() + "/24 dev wan1", "addr add " + internet.String() + "/32 dev lo",
		"addr add " + remote.String() + "/32 dev lo", "addr add " + crosser.String() + "/32 dev lo", "addr add " + beside(n).String() + "/32 dev lo",
		"neigh add " + wanAddr.Addr().String() + " lladdr " + selfMAC + " dev wan1 nud permanent",
		"addr add " + peer(n/2).String() + "/32 dev lo", "route add " + lan.String() + " via " + wanAddr.Addr().String(),
	}
	inside := []string{
		"link set lo up", "link set lan1 up", "addr add " + lanHost.String() + "/16 dev lan1",
		"neigh add " + lanAddr.Addr().String() + " lladdr " + selfMAC + " dev lan1 nud permanent", "route add default via " + lanAddr.Addr().String(),
	}
	for i := range n {
		self = append(self, addPolicies(i)...)
		if s.real {
			self = append(self, addStates(i)...)
		}
	}
	if s.real {
		wan = append(wan, farEnd(n/2)...)
	}
	for _, at := range []struct {
		where namespace
		lines []string
	}{{g.self, self}, {g.wan, wan}, {g.lan, inside}} {
		err := at.where.run(func() error {
			for _, name := range []string{"ipv4/ip_forward", "ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter", "ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"} {
				value := "0"
				if name == "ipv4/ip_forward" || strings.HasPrefix(name, "ipv6") {
					value = "1"
				}
				if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil && !strings.HasPrefix(name, "ipv6") {
					return err
				}
			}
			return batch(s, at.lines)
		})
		if err != nil {
			return g, err
		}
	}
	return g, nil
}

// remote is a host behind the tunnel that is used, which is neither the first nor
// the last.
func (gateway) remote(n int) netip.Addr { return site(n / 2).Addr().Next() }

// beside is a host behind no tunnel, in the prefixes that lead to the guards of n tunnels.
func beside(n int) netip.Addr { return site(n).Addr().Next() }

// farEnd are the policies and states of tunnel i at its other end.
func farEnd(i int) []string {
	var lines []string
	for _, p := range policies(i, false) {
		dir := xfrm.Out
		switch p.Dir {
		case xfrm.Out:
			dir = xfrm.In
		case xfrm.Fwd:
			continue
		}
		t := p.Templates[0]
		lines = append(lines, fmt.Sprintf("xfrm policy add src %s dst %s dir %s priority %d tmpl src %s dst %s proto esp reqid %d mode tunnel",
			p.Selector.Src, p.Selector.Dst, dir, p.Priority, t.Src, t.Dst, t.Reqid))
	}
	lines = append(lines, fmt.Sprintf("xfrm policy add src %s dst %s dir out priority 1000 tmpl src %s dst %s proto esp reqid %d mode tunnel",
		crosser, lan, peer(i), wanAddr.Addr(), reqid(i)))
	return append(lines, addStates(i)...)
}

func (g gateway) close() {
	for _, n := range []namespace{g.wan, g.self, g.lan} {
		n.close()
	}
}

// apply puts the rules for n tunnels in force, with guards or without.
func (g gateway) apply(s settings, variant string, rs rules.Ruleset) error {
	change, err := plan.Make([]rules.Ruleset{rs}, map[xfrm.Family]live.Tables{xfrm.IPv4: {}})
	if err != nil {
		return err
	}
	return g.self.run(func() error {
		for i, step := range change.Steps {
			file := filepath.Join(s.dir, fmt.Sprintf("rules%d", i))
			if err := os.WriteFile(file, []byte(step.Text), 0o600); err != nil {
				return err
			}
			if err := sh(fmt.Sprintf("iptables-%s-restore --noflush <%s", variant, file)); err != nil {
				return err
			}
		}
		return nil
	})
}

// empty gives the gateway the tables in which the rules would stand, without
// rules, and has it follow flows, as any rule that asks for a flow's state does.
func (g gateway) empty(variant string) error {
	const tables = `*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:FLOWS - [0:0]
-A FLOWS -m conntrack --ctstate RELATED
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
COMMIT
`
	return g.self.run(func() error { return sh("iptables-" + variant + "-restore --noflush <<'END'\n" + tables + "END") })
}

// passed is how many packets this thread's namespace forwarded or delivered.
func passed() (int, error) {
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		return 0, err
	}
	var names []string
	total := 0
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if words[0] != "Ip:" {
			continue
		}
		if names == nil {
			names = words
			continue
		}
		for i, name := range names {
			if name == "ForwDatagrams" || name == "InDelivers" {
				n, err := strconv.Atoi(words[i])
				if err != nil {
					return 0, fmt.Errorf("%s of %s: %w", name, "/proc/net/snmp", err)
				}
				total += n
			}
		}
	}
	return total, nil
}

// sink takes the packets to an address of this thread's namespace, and keeps none of
// them.
func sink(a netip.Addr) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		return 0, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrInet4{Addr: a.As4(), Port: flowPort})
}

// forgetFlows empties the table of flows of the namespace in which the socket of
// netfilter's netlink was made.
func forgetFlows(fd int) error {
	m := make([]byte, 20)
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	const ctnetlink, ctDelete = 1, 2
	binary.NativeEndian.PutUint16(m[4:], ctnetlink<<8|ctDelete)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m[16] = unix.AF_INET
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n >= 20 {
		if e := int32(binary.NativeEndian.Uint32(answer[16:])); e != 0 {
			return fmt.Errorf("forget flows: %w", unix.Errno(-e))
		}
	}
	return nil
}

// pin keeps this thread on one processor, so that a packet is received in the sender's
// time.
func pin() error {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(runtime.NumCPU() - 1)
	return unix.SchedSetaffinity(0, &set)
}
