package xfrm

import (
	"net/netip"
	"testing"
)

func TestCheck(t *testing.T) {
	remote, local := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")
	flow := Flow{Src: netip.MustParseAddr("10.1.0.9"), Dst: netip.MustParseAddr("10.2.0.9"), Proto: TCP}
	esp := Transform{Proto: ESP, Mode: TunnelMode, Reqid: 1, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2")}
	other, transport := esp, esp
	other.Reqid, transport.Mode = 2, TransportMode
	protect := Policy{Dir: In, Selector: Selector{Family: IPv4, Src: remote, Dst: local}, Templates: []Template{
		{Proto: ESP, Mode: TunnelMode, Reqid: 1, Src: esp.Src, Dst: esp.Dst}}}
	block, bypass, small := protect, protect, protect
	block.Action, block.Templates, bypass.Templates = Block, nil, nil
	small.Templates = append([]Template{{Proto: Comp, Mode: TunnelMode, Reqid: 1, Optional: true}}, protect.Templates...)
	for _, tc := range []struct {
		name     string
		policies []Policy
		path     []Transform
		counter  string // empty if the packet passes
	}{
		{"in clear, no policy", nil, nil, ""},
		{"out of a tunnel, no policy", nil, []Transform{esp}, "XfrmInNoPols"},
		{"out of transport mode, no policy", nil, []Transform{transport}, ""},
		{"in clear, a policy asks for ESP", []Policy{protect}, nil, "XfrmInTmplMismatch"},
		{"out of its SA", []Policy{protect}, []Transform{esp}, ""},
		{"out of another SA", []Policy{protect}, []Transform{other}, "XfrmInTmplMismatch"},
		{"small, without IPComp", []Policy{small}, []Transform{esp}, ""},
		{"a block policy", []Policy{block}, []Transform{esp}, "XfrmInPolBlock"},
		{"a bypass policy, in clear", []Policy{bypass}, nil, ""},
		{"a bypass policy, out of a tunnel", []Policy{bypass}, []Transform{esp}, "XfrmInTmplMismatch"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := Snapshot{Policies: tc.policies}.Check(In, flow, tc.path)
			if d.Counter != tc.counter || d.Refused != (tc.counter != "") || d.Found != (len(tc.policies) > 0) {
				t.Errorf("found %v, refused %v by %q, want %q", d.Found, d.Refused, d.Counter, tc.counter)
			}
		})
	}
}

func TestOutbound(t *testing.T) {
	remote, local := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")
	flow := Flow{Src: netip.MustParseAddr("10.2.0.9"), Dst: netip.MustParseAddr("10.1.0.9"), Proto: TCP}
	out := Policy{Dir: Out, Selector: Selector{Family: IPv4, Src: local, Dst: remote}, Templates: []Template{
		{Family: IPv4, Proto: ESP, Mode: TunnelMode, Reqid: 1, Src: netip.MustParseAddr("192.0.2.2"), Dst: netip.MustParseAddr("192.0.2.1")}}}
	sa := State{Family: IPv4, Proto: ESP, Mode: TunnelMode, Reqid: 1, SPI: 5, Algs: Algs{AEAD: "rfc4106(gcm(aes))"}, Src: out.Templates[0].Src, Dst: out.Templates[0].Dst}
	block, bypass := out, out
	block.Action, block.Templates, bypass.Templates = Block, nil, nil
	for _, tc := range []struct {
		name    string
		s       Snapshot
		ahead   int
		counter string
	}{
		{"no policy", Snapshot{}, 0, ""},
		{"an SA", Snapshot{Policies: []Policy{out}, States: []State{sa}}, 1, ""},
		{"no SA", Snapshot{Policies: []Policy{out}}, 0, NoStates},
		{"a block policy", Snapshot{Policies: []Policy{block}}, 0, "XfrmOutPolBlock"},
		{"a bypass policy", Snapshot{Policies: []Policy{bypass}}, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.s.Host.Addresses = []Address{{Prefix: netip.MustParsePrefix("192.0.2.2/24")}}
			d := tc.s.Outbound(Tunnels(tc.s), flow)
			if len(d.Ahead) != tc.ahead || d.Counter != tc.counter || d.Stateless != (tc.counter == NoStates) {
				t.Errorf("through %d SAs, stateless %v, counter %q; want %d, %q", len(d.Ahead), d.Stateless, d.Counter, tc.ahead, tc.counter)
			}
		})
	}
}
