package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestEngineChange changes the engine to and fro while a tunnel carries a hundred packets a second and an attacker takes
// the addresses of a tunnel that went. A change has several commits, of a table of nftables and of tables of iptables, so
// packets meet each state between them. Enforce drops a packet of which one engine hides the tag from the other.
func TestEngineChange(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	for _, word := range []string{"observe", "enforce"} {
		t.Run(word, func(t *testing.T) {
			n := lab.NewNetwork(t)
			f := lab.IPv4
			gone := lab.IPsec{Reqid: 13, MoonNets: prefixes("10.1.3.0/24")}
			closed(t, n.Gateways()...)
			n.Up(t, lab.IPsec{})
			n.Moon.MustXfrmfw(t, "apply")
			configure(t, n.Sun, "cross_check: "+word+"\n")
			n.Up(t, gone)
			change := func(engine string) {
				t.Helper()
				n.Sun.MustXfrmfw(t, "apply", "--engine", engine)
				if out := n.Sun.MustXfrmfw(t, "check", "--engine", engine); !strings.HasPrefix(out, "in sync") {
					t.Errorf("after the change to %s: %s", engine, out)
				}
			}
			change("iptables")
			n.Down(t, gone)
			change("iptables")
			// Nothing but the guards keeps the attacker from this port.
			n.Sun.Rules(t, f, "filter", "-A FORWARD -p udp --dport 7000 -j ACCEPT")
			inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
			forged := lab.UDPPacket(netip.MustParseAddrPort("10.1.3.9:7001"), inbox.Addr, "forged")

			pings := n.Alice.Start(t, nil, "ping", "-n", "-i", "0.01", "-W", "5", "-w", "600", n.Bob.Inner(f).String())
			stop := n.Mallory.Flood(t, forged, 10*time.Millisecond)
			for _, engine := range []string{"nftables", "iptables", "nftables", "iptables"} {
				change(engine)
				for name, count := range drops(t, n.Sun, "--engine", engine) {
					if name != "spoof" && count != 0 {
						t.Errorf("%s: %d packets dropped as %s", engine, count, name)
					}
				}
			}
			stop()
			pings.Signal(t, 2)
			pings.Wait(t, lab.Patience)
			found := received.FindStringSubmatch(pings.Output())
			if found == nil || found[1] != found[2] || len(found[1]) < 3 {
				t.Errorf("pings during the changes:\n%.2000s", pings.Output()[max(0, len(pings.Output())-2000):])
			} else {
				t.Logf("%s pings, none lost", found[1])
			}
			if got := inbox.Count("forged"); got != 0 {
				t.Errorf("%d forged packets came through", got)
			}

			n.Sun.MustXfrmfw(t, "clear")
			if out := n.Sun.Save(t, f); strings.Contains(out, "XFRMFW") {
				t.Errorf("clear left behind:\n%s", out)
			}
			if r := n.Sun.Try(t, "", "nft", "list", "table", "inet", "xfrmfw"); r.Code == 0 {
				t.Errorf("clear left behind:\n%s", r.Stdout)
			}
			n.Mallory.SendRaw(t, forged.Times(3)...)
			lab.Eventually(t, lab.Patience, func() error {
				if got := inbox.Count("forged"); got < 3 {
					return fmt.Errorf("%d of 3 forged packets came through without guards: the others prove nothing", got)
				}
				return nil
			})
		})
	}
}
