package fake

import (
	"fmt"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

var connections = []string{"moon", "road", "branch"}

// people names some of the peers.
func (v *variety) people(in *firewall.Input) {
	if v.one(3) {
		return
	}
	in.Peers = make(map[string]firewall.Peer)
	for _, t := range in.Set.Tunnels {
		switch v.r.IntN(3) {
		case 0:
			in.Peers[t.ID] = firewall.Peer{Connection: connections[v.r.IntN(3)], Identity: fmt.Sprintf("%d@example.org", v.r.IntN(4))}
		case 1:
			in.Peers[t.ID] = firewall.Peer{Connection: connections[v.r.IntN(3)]}
		}
	}
}

// config decides more than a World's configuration does.
func (v *variety) config(in *firewall.Input) {
	p := netip.MustParsePrefix
	c := &in.Config
	c.MarkOnly = v.one(12)
	if v.one(3) {
		c.WAN = []string{"eth0"}
		if v.one(2) {
			c.Lockdown = &firewall.Lockdown{Services: v.services()}
		}
	}
	switch v.r.IntN(4) {
	case 0:
		c.Log = firewall.LogConfig{Kernel: true, PerSecond: 5}
	case 1:
		c.Log = firewall.LogConfig{Group: 3, PerSecond: 1}
	}
	if v.one(4) {
		c.Guard.Pairs = []guard.Guard{
			{Local: p("0.0.0.0/0"), Remote: p("172.16.0.0/14"), Source: guard.FromConfig},
			{Local: p("fd00:2::/64"), Remote: p("fd02::/32"), Source: guard.FromConfig},
		}
		in.Guards = append(in.Guards, c.Guard.Pairs...)
	}
	if v.one(6) {
		c.Guard.Asymmetric = []string{"eth1"}
	}
	if v.one(3) {
		in.NATSources = []netip.Prefix{p("192.0.2.2/32"), p("10.2.0.0/28"), p("2001:db8:ffff::2/128"), p("fd00:2::/96")}[v.r.IntN(3):]
	}
	for range v.r.IntN(4) {
		c.Tunnels = append(c.Tunnels, v.tunnelConfig(in.Set))
	}
}

func (v *variety) tunnelConfig(set xfrm.Set) firewall.TunnelConfig {
	var tc firewall.TunnelConfig
	var t xfrm.Tunnel
	if len(set.Tunnels) > 0 {
		t = set.Tunnels[v.r.IntN(len(set.Tunnels))]
	}
	switch v.r.IntN(6) {
	case 0:
		tc.Match.Connection = connections[v.r.IntN(3)]
	case 1:
		tc.Match.Identity = fmt.Sprintf("%d@example.org", v.r.IntN(4))
	case 2:
		tc.Match.Reqid = t.Reqid
	case 3:
		tc.Match.Peer = netip.MustParsePrefix([]string{"198.18.0.0/15", "203.0.0.0/22", "2001:db8:1::/48"}[v.r.IntN(3)])
	case 4:
		tc.Match.Remote = netip.MustParsePrefix([]string{"10.100.0.0/14", "172.16.0.0/12", "fd00::/8"}[v.r.IntN(3)])
	}
	if v.one(2) {
		tc.Name = connections[v.r.IntN(3)]
	}
	if v.one(3) && len(t.Pairs) > 0 {
		remote := t.Pairs[0].Remote
		if v.one(2) && !remote.IsSingleIP() {
			remote = netip.PrefixFrom(remote.Addr(), remote.Bits()+1)
		}
		tc.Remote = []netip.Prefix{remote, netip.MustParsePrefix("10.0.0.0/9"), netip.MustParsePrefix("fd00::/9")}[:1+v.r.IntN(3)]
	}
	if v.one(3) {
		tc.In = v.services()
	}
	if v.one(3) {
		tc.Out = v.services()
	}
	switch v.r.IntN(3) {
	case 0:
		tc.MSS.Auto = true
	case 1:
		tc.MSS.Size = 1300
	}
	tc.KeepNAT = v.one(3)
	return tc
}

// services are some, or none at all.
func (v *variety) services() []firewall.Service {
	all := []firewall.Service{
		{Proto: xfrm.TCP, Ports: firewall.Port(22)}, {Proto: xfrm.UDP, Ports: firewall.Ports{Lo: 5000, Hi: 5100}}, {Proto: xfrm.ICMP},
		{Proto: xfrm.TCP}, {Proto: xfrm.GRE},
	}
	v.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:v.r.IntN(len(all)+1)]
}
