package wire_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

func TestDecodePolicy(t *testing.T) {
	tests := []struct {
		name  string
		set   func(*wirePolicy)
		attrs [][]byte
		want  func(*xfrm.Policy)
	}{
		{name: "bypass"},
		{name: "fields", set: func(w *wirePolicy) {
			w.Dir, w.Action, w.Flags = 2, 1, 3
			w.Priority, w.Index = 4, 5
			w.Sel.Proto, w.Sel.Ifindex = 17, 6
		}, want: func(p *xfrm.Policy) {
			p.Dir, p.Action, p.Flags = xfrm.Fwd, xfrm.Block, 3
			p.Priority, p.Index = 4, 5
			p.Selector.Proto, p.Selector.Ifindex = xfrm.UDP, 6
		}},
		{name: "ports", set: func(w *wirePolicy) {
			w.Sel.Dport, w.Sel.DportMask = be16(443), be16(0xffff)
			w.Sel.Sport, w.Sel.SportMask = be16(0x1234), be16(0xff00)
		}, want: func(p *xfrm.Policy) {
			p.Selector.DPort = xfrm.PortMatch{Port: 443, Mask: 0xffff}
			p.Selector.SPort = xfrm.PortMatch{Port: 0x1200, Mask: 0xff00}
		}},
		{name: "port without mask", set: func(w *wirePolicy) { w.Sel.Dport = be16(443) }},
		{name: "host bits", set: func(w *wirePolicy) { w.Sel = selectorOf("10.1.0.77/24", "10.2.0.77/24") }},
		{name: "ipv6 allocation", set: func(w *wirePolicy) { w.Sel = selectorOf("2001:db8::/32", "fd00:1::/64") }, want: func(p *xfrm.Policy) {
			p.Selector.Family = xfrm.IPv6
			p.Selector.Src, p.Selector.Dst = netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("fd00:1::/64")
		}},
		{name: "all of ipv6", set: func(w *wirePolicy) { w.Sel = selectorOf("::/0", "::/0") }, want: func(p *xfrm.Policy) {
			p.Selector.Family = xfrm.IPv6
			p.Selector.Src, p.Selector.Dst = netip.MustParsePrefix("::/0"), netip.MustParsePrefix("::/0")
		}},
		{name: "ipv4-mapped ipv6", set: func(w *wirePolicy) { w.Sel = selectorOf("::ffff:0:0/96", "::ffff:10.0.0.0/104") }, want: func(p *xfrm.Policy) {
			p.Selector.Family = xfrm.IPv6
			p.Selector.Src, p.Selector.Dst = sample.Mapped("0.0.0.0", 96), sample.Mapped("10.0.0.0", 104)
		}},
		{name: "socket in", set: func(w *wirePolicy) { w.Dir = 3 }, want: func(p *xfrm.Policy) { p.Dir = xfrm.SocketIn }},
		{name: "socket out", set: func(w *wirePolicy) { w.Dir = 4 }, want: func(p *xfrm.Policy) { p.Dir = xfrm.SocketOut }},
		{name: "sub policy", attrs: [][]byte{attribute(16, uint8(1), [5]byte{})}, want: func(p *xfrm.Policy) { p.Type = xfrm.Sub }},
		{name: "main policy", attrs: [][]byte{attribute(16, [6]byte{})}},
		{name: "mark", attrs: [][]byte{attribute(21, uint32(0x2a), uint32(0xff))}, want: func(p *xfrm.Policy) { p.Mark = xfrm.Mark{Value: 0x2a, Mask: 0xff} }},
		{name: "if_id", attrs: [][]byte{attribute(31, uint32(9))}, want: func(p *xfrm.Policy) { p.IfID = 9 }},
		{name: "offload", attrs: [][]byte{attribute(28, int32(3), uint8(4), [3]byte{})}, want: func(p *xfrm.Policy) {
			p.Offload = xfrm.Offload{Ifindex: 3, Flags: 4}
		}},
		{name: "security context and newer", attrs: [][]byte{attribute(8, "selinux stuff"), attribute(77, "?")}},
		{name: "template", attrs: [][]byte{attribute(5, tunnelTemplate())}, want: func(p *xfrm.Policy) {
			p.Templates = []xfrm.Template{sample.Template()}
		}},
		{name: "optional template", attrs: [][]byte{attribute(5,
			sample.With(tunnelTemplate(), func(w *wireTemplate) {
				*w = wireTemplate{ID: wireID{Proto: 108}, Family: 2, Optional: 1}
			}),
			sample.With(tunnelTemplate(), func(w *wireTemplate) { w.Mode, w.ID.SPI = 0, be32(0x1001) }),
		)}, want: func(p *xfrm.Policy) {
			any4 := netip.MustParseAddr("0.0.0.0")
			second := sample.Template()
			second.Mode, second.SPI = xfrm.TransportMode, 0x1001
			p.Templates = []xfrm.Template{{Family: xfrm.IPv4, Src: any4, Dst: any4, Proto: xfrm.Comp, Optional: true}, second}
		}},
		{name: "outer ipv6, iptfs", attrs: [][]byte{attribute(5, sample.With(tunnelTemplate(), func(w *wireTemplate) {
			w.Family, w.Mode = 10, 5
			w.Saddr, w.ID.Daddr = address("2001:db8::"), address("fd00::2")
		}))}, want: func(p *xfrm.Policy) {
			x := sample.Template()
			x.Family, x.Mode = xfrm.IPv6, xfrm.IPTFSMode
			x.Src, x.Dst = netip.MustParseAddr("2001:db8::"), netip.MustParseAddr("fd00::2")
			p.Templates = []xfrm.Template{x}
		}},
		{name: "six templates", attrs: [][]byte{attribute(5, repeat(tunnelTemplate(), 6)...)}, want: func(p *xfrm.Policy) {
			for range 6 {
				p.Templates = append(p.Templates, sample.Template())
			}
		}},
		{name: "no templates", attrs: [][]byte{attribute(5)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, want := inPolicy(), sample.Policy()
			if tt.set != nil {
				tt.set(&w)
			}
			if tt.want != nil {
				tt.want(&want)
			}
			for _, typ := range []uint16{newPolicy, updPolicy} {
				var d wire.Decoder
				s := xfrm.Snapshot{Schema: xfrm.SchemaVersion}
				if err := d.Decode(&s, typ, message(w, tt.attrs...)); err != nil {
					t.Fatal(err)
				}
				if len(s.Policies) != 1 || !reflect.DeepEqual(s.Policies[0], want) {
					t.Errorf("got  %+v, skipped %q\nwant %+v", s.Policies, s.Skipped, want)
				}
				if err := s.Validate(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestDecodePolicySkips(t *testing.T) {
	tests := []struct {
		name string
		body []byte
		want string
	}{
		{"short", message(inPolicy())[:160], "shorter than its struct"},
		{"family", message(sample.With(inPolicy(), func(w *wirePolicy) { w.Sel.Family = 0 })), "address family 0"},
		{"prefix length", message(sample.With(inPolicy(), func(w *wirePolicy) { w.Sel.PrefixS = 64 })), "source: prefix length 64"},
		{"interface", message(sample.With(inPolicy(), func(w *wirePolicy) { w.Sel.Ifindex = -2 })), "index -2"},
		{"direction", message(sample.With(inPolicy(), func(w *wirePolicy) { w.Dir = 5 })), "direction 5"},
		{"action", message(sample.With(inPolicy(), func(w *wirePolicy) { w.Action = 2 })), "action 2"},
		{"type", message(inPolicy(), attribute(16, uint8(2), [5]byte{})), "type 2"},
		{"seven templates", message(inPolicy(), attribute(5, repeat(tunnelTemplate(), 7)...)), "7 templates"},
		{"half a template", message(inPolicy(), attribute(5, tunnelTemplate(), uint32(0))), "attribute is cut short"},
		{"template's family", message(inPolicy(), attribute(5, sample.With(tunnelTemplate(), func(w *wireTemplate) { w.Family = 1 }))), "template 0: address family 1"},
		{"template's mode", message(inPolicy(), attribute(5, sample.With(tunnelTemplate(), func(w *wireTemplate) { w.Mode = 6 }))), "template 0: mode 6 is not known"},
		{"mark", message(inPolicy(), attribute(21, uint32(1))), "attribute 21"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d wire.Decoder
			var s xfrm.Snapshot
			if err := d.Decode(&s, newPolicy, tt.body); err != nil {
				t.Fatal(err)
			}
			if len(s.Policies) != 0 || len(s.Skipped) != 1 || !strings.Contains(s.Skipped[0].Reason, tt.want) {
				t.Errorf("got policies %v, skipped %q; want one skipped with %q", s.Policies, s.Skipped, tt.want)
			}
		})
	}
}

// Templates of all policies come from shared chunks: none may reach into another's.
func TestDecodeManyTemplates(t *testing.T) {
	var d wire.Decoder
	var s xfrm.Snapshot
	for i := range 2000 {
		w := tunnelTemplate()
		w.Reqid = uint32(i)
		if err := d.Decode(&s, newPolicy, message(inPolicy(), attribute(5, repeat(w, i%7)...))); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range s.Policies {
		if len(p.Templates) != i%7 || cap(p.Templates) != i%7 {
			t.Fatalf("policy %d: %d templates of %d, want %d", i, len(p.Templates), cap(p.Templates), i%7)
		}
		for _, x := range p.Templates {
			if x.Reqid != uint32(i) {
				t.Fatalf("policy %d: template of another: %+v", i, x)
			}
		}
	}
}

func repeat[T any](v T, n int) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = v
	}
	return all
}
