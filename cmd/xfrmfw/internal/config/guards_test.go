package config

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestParseGuardsAndServices(t *testing.T) {
	c, err := Parse([]byte(`
lockdown: {services: [tcp/22, icmp]}
wan: [eth0]
guard:
  remember: 12h
  pairs: [{local: 10.2.0.0/24, remote: 10.1.0.0/24}]
  asymmetric: [eth3]
log: {group: 7, rate: 20/s}
tunnels:
  - match: {reqid: 1}
    in: [tcp/22, udp/5000-5010, icmp]
    out: [esp]
`), "x")
	if err != nil {
		t.Fatal(err)
	}
	want := firewall.Config{
		WAN:      []string{"eth0"},
		Marks:    firewall.DefaultMarks(),
		Log:      firewall.LogConfig{Group: 7, PerSecond: 20},
		Lockdown: &firewall.Lockdown{Services: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}, {Proto: xfrm.ICMP}}},
		Guard: guard.Config{
			Remember:   12 * 3600,
			Asymmetric: []string{"eth3"},
			Pairs: []guard.Guard{{
				Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.1.0.0/24"), Source: guard.FromConfig,
			}},
		},
		Tunnels: []firewall.TunnelConfig{{
			Match: firewall.Match{Reqid: 1},
			In:    []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}, {Proto: xfrm.UDP, Ports: firewall.Ports{Lo: 5000, Hi: 5010}}, {Proto: xfrm.ICMP}},
			Out:   []firewall.Service{{Proto: xfrm.ESP}},
		}},
	}
	if !reflect.DeepEqual(c.Firewall, want) {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
	for text, check := range map[string]func(firewall.Config) bool{
		"cross_check: enforce":   func(c firewall.Config) bool { return c.Enforce },
		"cross_check: observe":   func(c firewall.Config) bool { return !c.Enforce },
		"guard: {remember: off}": func(c firewall.Config) bool { return c.Guard.Forget },
		"guard: {remember: 2d}":  func(c firewall.Config) bool { return c.Guard.Remember == 2*24*3600 && !c.Guard.Forget },
		"log: off":               func(c firewall.Config) bool { return c.Log == firewall.LogConfig{} },
		"log: {rate: 9/s}":       func(c firewall.Config) bool { return c.Log == firewall.LogConfig{Kernel: true, PerSecond: 9} },
		"wan: [eth0]":            func(c firewall.Config) bool { return c.Log == firewall.LogConfig{Kernel: true, PerSecond: 5} },
	} {
		if c, err := Parse([]byte(text), "x"); err != nil || !check(c.Firewall) {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
}
