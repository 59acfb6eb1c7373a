package ike

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// site brings the connection between moon and sun up, with the hook alone.
func site(t *testing.T, n *lab.Network, s side, settings ...string) map[*lab.Host]*lab.Charon {
	t.Helper()
	f := lab.IPv4
	closed(t, n.Gateways()...)
	daemons := make(map[*lab.Host]*lab.Charon)
	for _, g := range n.Gateways() {
		own := s
		own.connection = append([]string{"local_addrs = " + g.Outer(f).String()}, s.connection...)
		daemons[g] = g.StartCharon(t, gatewayConf(n, g, own, updown(t)), settings...)
	}
	daemons[n.Moon].Swanctl(t, "--initiate", "--timeout", "60", "--child", "sun-net")
	eventuallyPings(t, n.Alice, n.Bob.Inner(f))
	lab.InSync(t, n.Gateways()...)
	return daemons
}

// undisturbed fails the test if a gateway has not one tunnel that is up, or has dropped something.
func undisturbed(t *testing.T, n *lab.Network) {
	t.Helper()
	for _, g := range n.Gateways() {
		r := status(t, g)
		if up := r.up(); len(up) != 1 {
			t.Errorf("%s: status shows %+v, want one tunnel that is up", g.Name, up)
		}
		for name, drops := range r.Drops {
			if drops.Packets != 0 {
				t.Errorf("%s: %d packets dropped as %s", g.Name, drops.Packets, name)
			}
		}
	}
}

// TestOffloadedUDP is UDP encapsulation with the offload module loaded: strongSwan has its socket take ESP in GRO since
// 6.0.2, and then no tag can be had. The traffic passes by its policy alone and status gives the reason, with older
// daemons too, as nothing shows which of them set the option.
func TestOffloadedUDP(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.LoadESPOffload(t)
	n := lab.NewNetwork(t)
	n.EnableGRO(t)
	site(t, n, side{connection: []string{"encap = yes"}})
	n.Alice.MustPing(t, n.Bob.Inner(lab.IPv4), 4)
	for _, g := range n.Gateways() {
		for _, tunnel := range status(t, g).up() {
			by := tunnel.PacketsBy
			if tunnel.Evidence != "policy-only" || !strings.Contains(tunnel.Reason, "esp4_offload is loaded") || by.Verified+by.PolicyOnly < 4 || by.Unconfirmed != 0 {
				t.Errorf("%s: evidence %s (%s), packets %+v", g.Name, tunnel.Evidence, tunnel.Reason, by)
			}
		}
	}
	if lab.Engine() == "iptables" {
		t.Logf("the tag rule of sun counted %d packets", n.Sun.Counter(t, lab.IPv4, "mangle", "/tag"))
	}
	undisturbed(t, n)
}

// TestPerCPU is one connection with a pair of SAs for each processor, as strongSwan 6.0 negotiates them with Linux 6.13:
// they are one tunnel. The daemon needs a trap for that: without one it refuses the kernel's acquires for a processor
// ("trap not found").
func TestPerCPU(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	if older(lab.Kernel(), 6, 13) {
		t.Skipf("Linux %s has no states of a single processor", lab.Kernel())
	}
	n := lab.NewNetwork(t)
	site(t, n, side{child: []string{"per_cpu_sas = yes", "start_action = trap"}})
	// The first packet of a processor asks for its SAs.
	lab.Eventually(t, 6*lab.Patience, func() error {
		n.Alice.Ping(t, n.Bob.Inner(lab.IPv4), 1)
		if states := n.Moon.Run(t, "ip", "xfrm", "state"); strings.Count(states, "proto esp") < 4 {
			return fmt.Errorf("moon has no pair of SAs for a processor:\n%s", states)
		}
		return nil
	})
	lab.InSync(t, n.Gateways()...)
	n.Alice.MustPing(t, n.Bob.Inner(lab.IPv4), 4)
	n.Bob.MustPing(t, n.Alice.Inner(lab.IPv4), 4)
	for _, tunnel := range status(t, n.Moon).up() {
		if len(tunnel.SAs) < 4 || tunnel.Evidence != "tag+policy" {
			t.Errorf("moon: status shows %+v, want two pairs of SAs", tunnel)
		}
	}
	undisturbed(t, n)
}

// TestReauthentication replaces the IKE SA and all below it, the new before the old goes, as strongSwan 6 does by default:
// the firewall drops nothing meanwhile. The peer sends by its new SA a moment before this end has it, so a few packets are
// lost in the kernel.
func TestReauthentication(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	n := lab.NewNetwork(t)
	daemons := site(t, n, side{}, "make_before_break = yes")
	const packets = 60
	ping := n.Alice.Start(t, nil, "ping", "-n", "-i", "0.3", "-c", strconv.Itoa(packets), n.Bob.Inner(lab.IPv4).String())
	daemons[n.Moon].Swanctl(t, "--rekey", "--ike", "site", "--reauth")
	ping.Wait(t, 6*lab.Patience)
	if answered := strings.Count(ping.Output(), "bytes from"); answered < packets*9/10 {
		t.Errorf("%d of %d packets are answered:\n%s", answered, packets, ping.Output())
	}
	lab.InSync(t, n.Gateways()...)
	undisturbed(t, n)
	for _, tunnel := range status(t, n.Sun).up() {
		if tunnel.PeerID != "moon.lab" {
			t.Errorf("sun: status shows %+v", tunnel)
		}
	}
}

// older reports whether a series of kernels, such as 6.12, is older than another.
func older(series string, major, minor int) bool {
	var m, n int
	if _, err := fmt.Sscanf(series, "%d.%d", &m, &n); err != nil {
		return true
	}
	return m < major || m == major && n < minor
}
