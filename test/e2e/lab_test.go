package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// These tests prove the lab: they say nothing about xfrmfw, and everything about whether the other tests can be believed.

// TestLabTunnels sends traffic through every kind of tunnel and looks at the wire: there is ESP, and no cleartext.
func TestLabTunnels(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	tests := []struct {
		name   string
		tunnel lab.IPsec
		natt   bool
	}{
		{name: "v4", tunnel: lab.IPsec{}},
		{name: "v6", tunnel: lab.IPsec{Inner: lab.IPv6}},
		{name: "v6 in v4", tunnel: lab.IPsec{Inner: lab.IPv6, Outer: lab.IPv4}},
		{name: "v4 in v6", tunnel: lab.IPsec{Inner: lab.IPv4, Outer: lab.IPv6}},
		{name: "cbc", tunnel: lab.IPsec{CBC: true}},
		{name: "nat traversal", tunnel: lab.IPsec{NATT: true}, natt: true},
		{name: "nat traversal v6", tunnel: lab.IPsec{Inner: lab.IPv6, NATT: true}, natt: true},
		{name: "ipcomp", tunnel: lab.IPsec{Compress: true}},
		{name: "ipcomp v6", tunnel: lab.IPsec{Inner: lab.IPv6, Compress: true}},
		{name: "mark", tunnel: lab.IPsec{InboundMark: lab.Mark{Value: 0x2000, Mask: 0xf000}}},
		{name: "xfrm interface", tunnel: lab.IPsec{Carrier: lab.XFRMInterface}},
		{name: "xfrm interface v6", tunnel: lab.IPsec{Inner: lab.IPv6, Carrier: lab.XFRMInterface}},
		{name: "vti", tunnel: lab.IPsec{Carrier: lab.VTI}},
		{name: "vti v6", tunnel: lab.IPsec{Inner: lab.IPv6, Carrier: lab.VTI}},
		{name: "gre", tunnel: lab.IPsec{Carrier: lab.GRE}},
		{name: "gre v6", tunnel: lab.IPsec{Inner: lab.IPv6, Carrier: lab.GRE}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := lab.NewNetwork(t)
			f := max(test.tunnel.Inner, lab.IPv4)
			n.Up(t, test.tunnel)
			wire := n.Wire(t)
			n.Alice.MustPing(t, n.Bob.Inner(f), 3)
			n.Bob.MustPing(t, n.Alice.Inner(f), 3, "-s", "1000")
			n.Alice.MustPing(t, n.Sun.Inner(f), 1, "-s", "1000")

			if got := wire.Count(t, lab.IsESP); got != 14 {
				t.Errorf("%d ESP packets on the wire, want 14: %v", got, wire.Frames(t))
			}
			if got := wire.Count(t, lab.IsNATT) > 0; got != test.natt {
				t.Errorf("ESP in UDP on the wire: %v, want %v", got, test.natt)
			}
			if got := wire.Count(t, lab.Between(n.Moon.InnerNet(f), n.Sun.InnerNet(f))); got != 0 {
				t.Errorf("%d packets in clear on the wire: %v", got, wire.Frames(t))
			}
		})
	}
}

// TestLabTransport protects the gateways' own traffic.
func TestLabTransport(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	for _, f := range lab.Families {
		t.Run(f.String(), func(t *testing.T) {
			n := lab.NewNetwork(t)
			n.Up(t, lab.IPsec{Inner: f, Transport: true})
			wire := n.Wire(t)
			n.Moon.MustPing(t, n.Sun.Outer(f), 3)
			if got := wire.Count(t, lab.IsESP); got < 6 { // unicast neighbour discovery is protected as well
				t.Errorf("%d ESP packets on the wire, want 6", got)
			}
		})
	}
}

// TestLabCleartext shows the purpose of the firewall: without policies, forged packets
// and a tunnel's traffic both pass in clear; with them, the kernel stops the forgery by
// itself.
func TestLabCleartext(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	for _, f := range lab.Families {
		t.Run(f.String(), func(t *testing.T) {
			n := lab.NewNetwork(t)
			inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
			forge := func(payload string) {
				t.Helper()
				src := netip.AddrPortFrom(n.Alice.Inner(f), 7001)
				n.Mallory.SendRaw(t, lab.UDPPacket(src, inbox.Addr, payload).Times(3)...)
			}
			arrived := func(payload string, want int) {
				t.Helper()
				lab.Eventually(t, lab.Patience, func() error {
					if got := inbox.Count(payload); got != want {
						return fmt.Errorf("%d of %q arrived, want %d", got, payload, want)
					}
					return nil
				})
			}
			forge("before")
			arrived("before", 3)

			tunnel := lab.IPsec{Inner: f}
			n.Up(t, tunnel)
			forge("protected")
			n.Alice.SendUDP(t, netip.AddrPort{}, inbox.Addr, "real", 3)
			arrived("real", 3)
			arrived("protected", 0)

			n.Down(t, tunnel)
			forge("after")
			arrived("after", 3)
			wire := n.Wire(t)
			n.Alice.MustPing(t, n.Bob.Inner(f), 3)
			if got := wire.Count(t, lab.Between(n.Moon.InnerNet(f), n.Sun.InnerNet(f))); got != 6 {
				t.Errorf("%d packets in clear on the wire, want 6", got)
			}
		})
	}
}

// TestLabTCP sends a stream through a tunnel, and a forged segment to its server.
func TestLabTCP(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{})
	at := n.Bob.ServeTCP(t, netip.AddrPortFrom(n.Bob.Inner(lab.IPv4), 7000))
	conn, err := n.Alice.DialTCP(t, netip.AddrPort{}, at, lab.Patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.EchoTCP(conn, string(make([]byte, 100_000)), lab.Patience); err != nil {
		t.Fatal(err)
	}
	near := n.Bob.Capture(t, "eth0")
	isSyn := func(f lab.Frame) bool { return f.SrcPort == 7002 && !f.Outgoing }
	n.Sun.FlushXFRM(t)
	n.Mallory.SendRaw(t, lab.TCPSynPacket(netip.AddrPortFrom(n.Alice.Inner(lab.IPv4), 7002), at))
	lab.Eventually(t, lab.Patience, func() error {
		if near.Count(t, isSyn) != 1 {
			return fmt.Errorf("the forged segment has not arrived: %v", near.Frames(t))
		}
		return nil
	})
}

// TestLabOffload shows that ESP which is decrypted in GRO never reaches netfilter, so that no rule can tag the outer
// packet, and that the policy match still knows the inner one.
func TestLabOffload(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	for _, offload := range []bool{false, true} {
		for _, tunnel := range []lab.IPsec{
			{}, {Inner: lab.IPv6}, {NATT: true, NATTGRO: true},
		} {
			f := max(tunnel.Inner, lab.IPv4)
			t.Run(fmt.Sprintf("%v/natt=%v/offload=%v", f, tunnel.NATT, offload), func(t *testing.T) {
				if offload {
					lab.LoadESPOffload(t)
				} else if lab.ESPOffload() {
					t.Fatal("the offload modules are loaded")
				}
				n := lab.NewNetwork(t)
				n.EnableGRO(t)
				outer := []string{"-p", "esp"}
				if tunnel.NATT {
					outer = []string{"-p", "udp", "--dport", "4500"}
				}
				n.Sun.Iptables(t, f, append([]string{"-t", "mangle", "-A", "INPUT", "-j", "MARK",
					"--set-xmark", "0x10000000/0x10000000"}, outer...)...)
				n.Sun.Rules(t, f, "mangle",
					"-A FORWARD -m mark --mark 0x10000000/0x10000000 -m comment --comment tagged",
					"-A FORWARD -m policy --dir in --pol ipsec --reqid 11 -m comment --comment policy")
				n.Up(t, tunnel)
				n.Alice.MustPing(t, n.Bob.Inner(f), 4)

				tags := 4
				if offload && !(tunnel.NATT && lab.Kernel() == "6.1") { // ESP in UDP: GRO takes it since Linux 6.7
					tags = 0
				}
				if got := n.Sun.Counter(t, f, "mangle", "-A INPUT "); got != tags {
					t.Errorf("the tag rule counted %d packets, want %d", got, tags)
				}
				if got := n.Sun.Counter(t, f, "mangle", "--comment tagged"); got != tags {
					t.Errorf("%d tagged packets in FORWARD, want %d", got, tags)
				}
				if got := n.Sun.Counter(t, f, "mangle", "--comment policy"); got != 4 {
					t.Errorf("%d packets with the policy in FORWARD, want 4", got)
				}
			})
		}
	}
}

// TestLabVariant is that iptables is of the variant in XFRMFW_VARIANT.
func TestLabVariant(t *testing.T) {
	lab.RunIn(t, lab.Newest)
	h := lab.NewHosts(t, "moon")[0]
	want := map[string]string{"nft": "(nf_tables)", "legacy": "(legacy)"}[lab.Variant()]
	for _, f := range lab.Families {
		if got := h.Iptables(t, f, "-V"); !strings.Contains(got, want) {
			t.Errorf("%v: iptables is %q, want %s", f, got, want)
		}
	}
}

// TestLabKeys is that the keys of the lab's SAs are found in a text with them.
func TestLabKeys(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{})
	if got := lab.KeyIn(n.Sun.Run(t, "ip", "xfrm", "state")); got != "hexadecimal" {
		t.Errorf("ip xfrm state shows keys, found %q", got)
	}
	if got := lab.KeyIn(n.Sun.Run(t, "ip", "xfrm", "policy")); got != "" {
		t.Errorf("ip xfrm policy shows no keys, found %q", got)
	}
}

// TestLabProgram is that a program sees its host's folders, and that a started one can be stopped.
func TestLabProgram(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	h := lab.NewHosts(t, "moon", "sun")
	for _, host := range h {
		script := "echo " + host.Name + " >/run/xfrmfw/name; cat /run/xfrmfw/name; exec sleep 1000"
		p := host.Start(t, nil, "sh", "-c", script)
		p.WaitOutput(t, host.Name)
		if code := p.Stop(t); code != -1 {
			t.Errorf("exit status %d of a terminated program, want -1", code)
		}
	}
}

// TestLabXfrmfw is that the program under test starts on a host, and sees the host's folders and no other host's.
func TestLabXfrmfw(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	for _, host := range lab.NewHosts(t, "moon", "sun") {
		if out := host.MustXfrmfw(t, "--help"); !strings.Contains(out, "xfrmfw") {
			t.Errorf("xfrmfw --help says %q", out)
		}
		if result := host.Call(t, []string{"WORD=" + host.Name}, "in", "sh", "-c",
			`cat; echo " $WORD" $(ls /etc/xfrmfw); echo err >&2; touch /etc/xfrmfw/$WORD; exit 3`); result !=
			(lab.Result{Stdout: "in " + host.Name + "\n", Stderr: "err\n", Code: 3}) {
			t.Errorf("the program did %+v", result)
		}
	}
}
