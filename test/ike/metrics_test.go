package ike

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/test/prometheus"
)

// TestMetrics has Debian's Prometheus scrape the daemon of a gateway, while traffic goes through a tunnel and an attacker
// forges some, and asks it all that the dashboard and the alerts ask. Then the tunnel goes down.
func TestMetrics(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	const target, address, shipped = "127.0.0.1:9863", "127.0.0.1:9090", "../../scripts/dist"
	program := prometheus.Program(t, "prometheus")
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{})
	config := fmt.Sprintf(`daemon: {metrics: "%s", metrics_tunnels: 10}
tunnels:
  - match: {peer: %s}
    name: moon
`, target, n.Moon.Outer(lab.IPv4))
	if err := os.WriteFile(filepath.Join(n.Sun.EtcDir(), "xfrmfw.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Sun.StartXfrmfw(t, "daemon")
	server := prometheus.Server{Address: address, Client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = n.Sun.Do(func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}}
	// reaches waits until an expression has a value of at least so much, and has send do something meanwhile.
	reaches := func(expression string, least float64, send func()) {
		t.Helper()
		lab.Eventually(t, 6*lab.Patience, func() error {
			samples, err := server.Query(context.Background(), expression)
			for _, s := range samples {
				if value, err := strconv.ParseFloat(s.Value, 64); err == nil && value >= least {
					return nil
				}
			}
			send()
			n.Sun.IP(t, "addr add 127.0.0.9/8 dev lo", "addr del 127.0.0.9/8 dev lo") // has the daemon look
			time.Sleep(2 * time.Second)                                               // which it needs the processor for
			return cmp.Or(err, fmt.Errorf("%s: %v, want at least %v", expression, samples, least))
		})
	}
	inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(lab.IPv4), 7000))
	forged := lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(lab.IPv4), 7001), inbox.Addr, "forged")
	forge := func() { n.Mallory.SendRaw(t, forged.Times(3)...) }
	traffic := func() {
		n.Alice.SendUDP(t, netip.AddrPort{}, inbox.Addr, "real", 3)
		forge()
	}
	// Counting begins with the first scrape, which is not left to Prometheus: that takes long to start.
	lab.Eventually(t, 2*lab.Patience, func() error {
		res, err := server.Client.Get("http://" + target + "/metrics")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		page, err := io.ReadAll(res.Body)
		if up := `xfrmfw_tunnels{state="up"} 1`; err == nil && !strings.Contains(string(page), up) {
			err = fmt.Errorf("no %s: %s", up, page)
		}
		return err
	})
	traffic()
	n.Sun.Start(t, nil, program, prometheus.Configure(t, 5, target, address, shipped)...)
	reaches(`xfrmfw_tunnel_received_packets_total{name="moon", evidence="verified"}`, 3, traffic)
	server.Check(t, 3*lab.Patience, prometheus.Expressions(t, shipped))
	for expression, least := range map[string]float64{
		`xfrmfw_named_tunnel_up{name="moon"}`: 1, `xfrmfw_tunnel_up{name="moon"}`: 1, `xfrmfw_tunnels{state="up"}`: 1, `up{job="xfrmfw"}`: 1,
		`xfrmfw_tunnel_sa_bytes_total{name="moon", direction="in"}`: 100, `xfrmfw_reconciles_total`: 2, `xfrmfw_guards{source="live"}`: 1,
		// While the policies are there the kernel's own check comes before the guard in FORWARD.
		`sum(xfrmfw_kernel_xfrm_errors_total) + sum(xfrmfw_dropped_packets_total{case="spoof"})`: 3,
	} {
		reaches(expression, least, func() {})
	}

	n.Sun.FlushXFRM(t)
	reaches(`min(xfrmfw_dropped_packets_total{case=~"spoof|leak"})`, 3, func() {
		forge()
		n.Bob.SendUDP(t, netip.AddrPort{}, netip.AddrPortFrom(n.Alice.Inner(lab.IPv4), 7000), "leak", 3)
	})
	lab.Eventually(t, 2*lab.Patience, func() error {
		names, err := server.Alerts(context.Background())
		if err == nil && !slices.Contains(names, "XfrmfwTunnelDown") {
			err = fmt.Errorf("the tunnel is down, and the alerts are %q", names)
		}
		return err
	})
	if inbox.Count("forged") > 0 {
		t.Error("what was forged arrived")
	}
}
