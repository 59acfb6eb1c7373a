package coexist

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestWireGuard: wg-quick with a default route adds a routing rule for all packets without its mark, which names no mask,
// and a table of nftables that gives each UDP packet the mark of its flow, which wipes ours. It goes up and down ten times
// while UDP is in the tunnel and the daemon follows another tunnel that comes and goes. Until its second rule prefers the main
// table, the first one leads every packet of the host into wg0, in which no packet of a tunnel arrives: the control. So the
// configuration adds such a rule before, at 0: the kernel puts rules without a number in front of all others.
func TestWireGuard(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	need(t, "/usr/bin/wg-quick")
	for name, tunnel := range map[string]lab.IPsec{"esp": {}, "esp in udp": {NATT: true}} {
		t.Run(name, func(t *testing.T) {
			const rounds = 10
			s := siteWith(t, tunnel)
			config := s.wireguard(t)
			far := netip.MustParseAddr("10.99.0.2")
			reached := func(when string) {
				t.Helper()
				lab.Eventually(t, lab.Patience, func() error {
					if p := s.Sun.Ping(t, far, 1); p.Received == 0 {
						return fmt.Errorf("%s: no answer by wg0: %s", when, p.Output)
					}
					return nil
				})
				p := s.Sun.Ping(t, far, 10)
				t.Logf("coexist: %s: %v", when, p)
				if p.Received != p.Sent {
					t.Logf("%s", p.Output)
				}
			}
			s.sh(t, "wg-quick up "+config)
			reached("control")
			s.sh(t, "ip rule del pref 0 table main suppress_prefixlength 1; ip rule del table main suppress_prefixlength 0")
			s.Bob.MustNotPing(t, s.Alice.Inner(lab.IPv4), 2)
			s.sh(t, "ip rule add pref 0 table main suppress_prefixlength 1; wg-quick down "+config)
			s.Bob.MustPing(t, s.Alice.Inner(lab.IPv4), 2)
			closed(t, s.Sun)
			followed(t, s.Sun)
			s.flows(t, "before wg-quick")
			wire, use := s.Wire(t), s.used(t)
			for i := range rounds {
				s.sh(t, "wg-quick up "+config)
				reached(fmt.Sprint("up ", i))
				other := lab.IPsec{Reqid: uint32(100 + i), MoonNets: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.77.%d.0/24", i))}}
				inner := other.MoonNets[0].Addr().Next()
				s.Moon.IP(t, fmt.Sprintf("addr add %s/32 dev lo", inner))
				s.Up(t, other)
				lab.InSync(t, s.Sun)
				s.Bob.MustPing(t, inner, 3)
				s.Down(t, other)
				if i == rounds-1 {
					break
				}
				s.sh(t, "wg-quick down "+config)
			}
			if lost := use.stop(t); lost > 0 {
				t.Errorf("%d packets were lost", lost)
			}
			if guards, n := dropped(t, s.Sun), closedBy(t, s.Sun); len(guards) > 0 || n > 0 {
				t.Errorf("packets were dropped by guards %v, by the closed chain %d", guards, n)
			}
			if n := wire.Count(t, lab.Between(s.Alice.InnerNet(lab.IPv4), s.Bob.InnerNet(lab.IPv4))); n > 0 {
				t.Errorf("%d packets were in clear on the WAN", n)
			}
			lab.InSync(t, s.Sun)
			s.refuses(t, 3)
			s.sh(t, "wg-quick down "+config)
			if left := s.sh(t, "ip rule; nft list tables"); strings.Contains(left, "51820") || strings.Contains(left, "wg-quick") {
				t.Errorf("wg-quick left:\n%s", left)
			}
		})
	}
}

// wireguard makes mallory a peer, and returns the configuration of sun's default route to it.
func (s *site) wireguard(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	key := func(name string) (private, public string) {
		private = strings.TrimSpace(s.sh(t, "umask 077; wg genkey"))
		public = strings.TrimSpace(s.Sun.RunInput(t, private, "wg", "pubkey"))
		write(t, dir+"/"+name, private)
		return private, public
	}
	sun, sunPublic := key("sun")
	_, malloryPublic := key("mallory")
	s.Mallory.Run(t, "sh", "-ec", fmt.Sprintf(`ip link add wg0 type wireguard
		wg set wg0 private-key %s/mallory listen-port 51820 peer %s allowed-ips 10.99.0.1/32
		ip addr add 10.99.0.2/24 dev wg0
		ip link set wg0 up`, dir, sunPublic))
	config := dir + "/wg0.conf"
	write(t, config, fmt.Sprintf(`[Interface]
PrivateKey = %s
Address = 10.99.0.1/24
PreUp = ip rule add pref 0 table main suppress_prefixlength 1
PostDown = ip rule del pref 0 table main suppress_prefixlength 1

[Peer]
PublicKey = %s
AllowedIPs = 0.0.0.0/0
Endpoint = %s
`, sun, malloryPublic, netip.AddrPortFrom(s.Mallory.Outer(lab.IPv4), 51820)))
	return config
}
