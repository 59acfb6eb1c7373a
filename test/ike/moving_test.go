package ike

import (
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestMovingOver takes a gateway from strongSwan's own script to the hook as the README says, with the tunnel up.
func TestMovingOver(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	n := lab.NewNetwork(t)
	f := lab.IPv4
	stock := "/usr/lib/ipsec/_updown iptables"
	start := func(g *lab.Host, updown string) *lab.Charon {
		return g.StartCharon(t, gatewayConf(n, g, side{connection: []string{"local_addrs = " + g.Outer(f).String()}}, updown))
	}
	sun := n.Sun
	for _, words := range [][]string{
		{"-P", "INPUT", "DROP"}, {"-P", "FORWARD", "DROP"}, {"-A", "INPUT", "-p", "udp", "-m", "multiport", "--dports", "500,4500", "-j", "ACCEPT"},
		{"-A", "INPUT", "-p", "esp", "-j", "ACCEPT"},
	} {
		sun.Iptables(t, f, words...)
	}
	before := sun.Iptables(t, f, "-S", "FORWARD")
	ike := start(sun, stock)
	moon := start(n.Moon, "")
	wire := n.Wire(t)
	moon.Swanctl(t, "--initiate", "--timeout", "60", "--child", "sun-net")
	eventuallyPings(t, n.Alice, n.Bob.Inner(f))
	if got := sun.Iptables(t, f, "-S", "FORWARD"); strings.Count(got, "-m policy") != 2 {
		t.Fatalf("strongSwan's script did not write its rules:\n%s", got)
	}

	sun.MustXfrmfw(t, "apply")
	ike.Load(t, gatewayConf(n, sun, side{connection: []string{"local_addrs = " + sun.Outer(f).String()}}, updown(t)))
	n.Alice.MustPing(t, n.Bob.Inner(f), 2)
	ike.Swanctl(t, "--terminate", "--ike", "site")
	moon.Swanctl(t, "--initiate", "--timeout", "60", "--child", "sun-net")
	eventuallyPings(t, n.Alice, n.Bob.Inner(f))
	lab.InSync(t, sun)
	if got := sun.Iptables(t, f, "-S", "FORWARD"); strings.Contains(got, "-m policy") {
		t.Errorf("strongSwan's rules are left:\n%s", got)
	}
	if up := status(t, sun).up(); len(up) != 1 || up[0].PeerID != "moon.lab" {
		t.Errorf("status shows %+v", up)
	}
	sun.MustXfrmfw(t, "clear")
	if got := sun.Iptables(t, f, "-S", "FORWARD"); got != before {
		t.Errorf("FORWARD is\n%s\nand was\n%s", got, before)
	}
	noCleartext(t, wire, innerNets(n))
}
