package xfrm_test

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// fullSnapshot has every field of every type set in at least one place.
func fullSnapshot() xfrm.Snapshot {
	state := sample.State()
	state.IfID, state.Dir, state.CPU = 9, xfrm.Inbound, 3
	state.Mark, state.SetMark = xfrm.Mark{Value: 1, Mask: 2}, xfrm.Mark{Value: 3, Mask: 4}
	state.Encap = xfrm.Encap{Type: 2, SPort: 4500, DPort: 4501}
	state.Offload = xfrm.Offload{Ifindex: 2, Flags: 6}
	state.Flags, state.ExtraFlags, state.ESN, state.ReplayWindow = 129, 1, true, 32
	state.Algs = xfrm.Algs{AEAD: "rfc4106(gcm(aes))", Crypt: "cbc(aes)", Auth: "hmac(sha1)", Comp: "deflate", ICVBits: 128}
	state.TFCPad, state.AddTime, state.UseTime, state.Bytes, state.Packets = 1, 2, 3, 4, 5
	state.Lifetime = xfrm.Lifetime{Bytes: 1, Packets: 2, Add: 3, Use: 4}
	state.Errors = xfrm.Errors{ReplayWindow: 1, Replay: 2, Integrity: 3}
	larval := xfrm.State{
		Family: xfrm.IPv6, Src: netip.MustParseAddr("::ffff:10.0.0.1"), Dst: netip.MustParseAddr("2001:db8::"),
		SPI: 5, Proto: xfrm.ESP,
	}
	policy := sample.Policy()
	policy.Selector.Proto, policy.Selector.Ifindex = xfrm.TCP, 2
	policy.Selector.SPort = xfrm.PortMatch{Port: 0x1000, Mask: 0xf000}
	policy.Selector.DPort = xfrm.PortMatch{Port: 443, Mask: 0xffff}
	policy.Dir, policy.Type, policy.Action, policy.Flags = xfrm.Fwd, xfrm.Sub, xfrm.Block, 3
	policy.IfID, policy.Mark, policy.Offload = 7, xfrm.Mark{Value: 1, Mask: 1}, xfrm.Offload{Ifindex: 2, Flags: 4}
	policy.Templates = []xfrm.Template{sample.Template(), sample.With(sample.Template(), func(x *xfrm.Template) { x.SPI, x.Optional = 1, true })}
	sixth := sample.Policy()
	sixth.Selector = xfrm.Selector{Family: xfrm.IPv6, Src: sample.Mapped("10.0.0.0", 104), Dst: netip.MustParsePrefix("::/0")}
	state.Selector = policy.Selector
	return xfrm.Snapshot{
		Schema:   xfrm.SchemaVersion,
		States:   []xfrm.State{state, larval},
		Policies: []xfrm.Policy{policy, sixth},
		Host: xfrm.Host{
			Links: []xfrm.Link{
				{Index: 1, Name: "lo", Up: true, MTU: 65536, MAC: xfrm.MAC{2, 5: 1}},
				{
					Index: 4, Name: "gre1", Kind: "gre", Master: 1, Parent: 1, IfID: 1, IKey: 1, OKey: 2, Port: 4789,
					Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("2001:db8::1"),
				},
			},
			Addresses:   []xfrm.Address{{Link: 1, Prefix: netip.MustParsePrefix("127.0.0.1/8")}, {Link: 1, Prefix: netip.MustParsePrefix("::1/128")}},
			Rules:       []xfrm.RoutingRule{{Priority: 100, Mark: xfrm.Mark{Value: 1, Mask: 3}}},
			Resolvers:   []netip.Addr{netip.MustParseAddr("2001:db8::53")},
			Routes:      []xfrm.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: 4, Via: netip.MustParseAddr("fe80::1"), Table: 254}, {Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: 1, Connected: true}},
			ESP4Offload: true, ESP6Offload: true, NoIPv6: true,
		},
		Skipped: []xfrm.Ignored{{Object: "policy index 9", Reason: "action 2 is not known"}, {Object: "a", Reason: "b"}},
		Time:    1700000000,
	}
}

func TestJSONRoundTrip(t *testing.T) {
	for _, want := range []xfrm.Snapshot{
		fullSnapshot(),
		{Schema: xfrm.SchemaVersion, States: []xfrm.State{}, Policies: []xfrm.Policy{}},
	} {
		var b bytes.Buffer
		if err := want.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		got, err := xfrm.ReadJSON(&b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

// A field that fullSnapshot leaves zero would escape TestJSONRoundTrip.
func TestFullSnapshotIsFull(t *testing.T) {
	unset := make(map[string]bool)
	note(reflect.ValueOf(fullSnapshot()), "Snapshot", unset)
	for path, zero := range unset {
		if zero {
			t.Errorf("%s is zero everywhere", path)
		}
	}
}

// note records for each field whether it is zero in all places.
func note(v reflect.Value, path string, unset map[string]bool) {
	if zero, seen := unset[path]; !seen || zero {
		unset[path] = v.IsZero() && path != "Snapshot.States.Mode"
	}
	switch {
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			note(v.Index(i), path, unset)
		}
	case v.Kind() == reflect.Struct && strings.HasSuffix(v.Type().PkgPath(), "/xfrm"):
		for i := range v.NumField() {
			note(v.Field(i), path+"."+v.Type().Field(i).Name, unset)
		}
	}
}

func TestReadJSONRefuses(t *testing.T) {
	var b bytes.Buffer
	if err := fullSnapshot().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	good := b.String()
	tests := []struct {
		name, old, new, want string
	}{
		{"nothing", good, "", "unexpected end"},
		{"null", good, "null", "schema 0"},
		{"schema", `"schema": 1`, `"schema": 2`, "schema 2 is not the supported 1"},
		{"schema and keys to come", `"schema": 1`, `"schema": 2, "wonders": []`, "schema 2 is not the supported 1"},
		{"unknown key", `"time": 1700000000`, `"tyme": 1700000000`, `unknown field "tyme"`},
		{"a key in a state", `"esn": true`, `"esn": true, "key": "00"`, `unknown field "key"`},
		{"text behind", "  \"time\": 1700000000\n}", "  \"time\": 1700000000\n}{}", "after top-level value"},
		{"family", `"family": "ipv6"`, `"family": "ipx"`, "want ipv4 or ipv6"},
		{"address of the other family", `"192.0.2.1"`, `"2001:db8::1"`, "not of family ipv4"},
		{"zone", `"2001:db8::"`, `"fe80::1%eth0"`, "has a zone"},
		{"no address", `"dst": "2001:db8::"`, `"dst": ""`, "no address"},
		{"prefix of the other family", `"10.1.0.0/24"`, `"2001:db8::/32"`, "not of family ipv4"},
		{"unmasked prefix", `"10.1.0.0/24"`, `"10.1.0.1/24"`, "beyond its length: want 10.1.0.0/24"},
		{"no prefix", `"10.1.0.0/24"`, `""`, "no prefix"},
		{"direction", `"fwd"`, `"sideways"`, "parse direction"},
		{"numeric direction", `"fwd"`, `"5"`, "direction 5"},
		{"state's direction", `"dir": "in"`, `"dir": "3"`, "direction 3"},
		{"action", `"block"`, `"7"`, "action 7"},
		{"type", `"sub"`, `"2"`, "type 2"},
		{"port", `"port": 443`, `"port": 70000`, "cannot unmarshal"},
		{"port beyond its mask", `"mask": 61440`, `"mask": 240`, "outside of its mask"},
		{"negative", `"ifindex": 2`, `"ifindex": -2`, "negative"},
		{"algorithm", `"cbc(aes)"`, `"cbc aes"`, "algorithm's name"},
		{"link name", `"gre1"`, `"gre1\" -j ACCEPT"`, "not supported"},
		{"link index", `"index": 4`, `"index": 1`, "occurs twice"},
		{"control character", `"a"`, `"\u001b[2J"`, "not printable"},
		{"route", `"10.0.0.0/8"`, `"10.0.0.1/8"`, "beyond its length"},
		{"connected with gateway", `"link": 4,`, `"link": 4, "connected": true,`, "has the gateway"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(good, tt.old, tt.new, 1)
			if text == good {
				t.Fatalf("%q does not occur in %s", tt.old, good)
			}
			_, err := xfrm.ReadJSON(strings.NewReader(text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
