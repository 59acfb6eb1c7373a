package foreign

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
)

const verified = 1 << 29

// inner is a packet out of a tunnel, before a FORWARD chain.
func inner() Packet {
	return Packet{
		Src: netip.MustParseAddr("10.1.0.9"), Dst: netip.MustParseAddr("10.2.0.9"), In: "wan0", Out: "lan0",
		Mark: verified, Known: ^uint32(1 << 28), FromIPsec: true,
	}
}

// outer is ESP to this host.
func outer() Packet {
	return Packet{In: "wan0", NoOut: true, Proto: 50, Known: ^uint32(0)}
}

// ike is IKE behind a NAT.
func ike() Packet {
	p := outer()
	p.Proto, p.SPort, p.DPort = 17, 4500, 4500
	return p
}

// table reads a table with a base chain f of a policy and these rules, each the
// JSON of its expressions as nft 1.0.6 prints them, and a chain "other" that
// accepts.
func table(t *testing.T, policy string, rules ...string) (Table, Chain) {
	t.Helper()
	text := fmt.Sprintf(`{"nftables": [{"metainfo": {"version": "1.0.6"}},
		{"table": {"family": "inet", "name": "x", "handle": 1}},
		{"set": {"family": "inet", "name": "nets", "table": "x", "type": "ipv4_addr", "elem": [{"prefix": {"addr": "10.1.0.0", "len": 24}}]}},
		{"set": {"family": "inet", "name": "empty", "table": "x", "type": "ipv4_addr"}},
		{"map": {"family": "inet", "name": "zones", "table": "x", "elem": [[{"concat": ["wan0", "lan0"]}, {"jump": {"target": "other"}}]]}},
		{"chain": {"family": "inet", "table": "x", "name": "f", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": %q}},
		{"chain": {"family": "inet", "table": "x", "name": "other", "handle": 2}},
		{"chain": {"family": "inet", "table": "x", "name": "leaves", "handle": 3}},
		{"rule": {"family": "inet", "table": "x", "chain": "other", "handle": 90, "expr": [{"accept": null}]}},
		{"rule": {"family": "inet", "table": "x", "chain": "leaves", "handle": 91, "expr": [{"return": null}]}},
		{"rule": {"family": "inet", "table": "x", "chain": "leaves", "handle": 92, "expr": [{"accept": null}]}}`, policy)
	for i, r := range rules {
		text += fmt.Sprintf(`, {"rule": {"family": "inet", "table": "x", "chain": "f", "handle": %d, "expr": [%s]}}`, i+1, r)
	}
	parsed, err := Parse([]byte(text + "]}"))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := parsed.Tables[0].chain("f")
	return parsed.Tables[0], c
}

func match(op, left, right string) string {
	return fmt.Sprintf(`{"match": {"op": %q, "left": %s, "right": %s}}`, op, left, right)
}

func payload(protocol, field string) string {
	return fmt.Sprintf(`{"payload": {"protocol": %q, "field": %q}}`, protocol, field)
}

// TestWalk: under a policy that drops, a rule with each kind of match lets a
// packet pass, or is not sure to. Under one that accepts, the same rule drops it
// only if it is sure to.
// A flowtable has one device or several.
func TestFlowtables(t *testing.T) {
	r, err := Parse([]byte(`{"nftables": [{"metainfo": {"json_schema_version": 1}}, {"table": {"family": "inet", "name": "fw", "handle": 1}},
		{"flowtable": {"family": "inet", "name": "one", "table": "fw", "handle": 2, "hook": "ingress", "prio": 0, "dev": "wan0"}},
		{"flowtable": {"family": "inet", "name": "two", "table": "fw", "handle": 3, "hook": "ingress", "prio": 0, "dev": ["wan0", "lan0"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Flowtable{{"one", []string{"wan0"}}, {"two", []string{"wan0", "lan0"}}}
	if len(r.Tables) != 1 || !reflect.DeepEqual(r.Tables[0].Flowtables, want) {
		t.Errorf("%+v", r.Tables)
	}
}

func TestWalk(t *testing.T) {
	const mark = `{"&": [{"meta": {"key": "mark"}}, 536870912]}`
	tests := []struct {
		name   string
		packet Packet
		match  string
		want   bool // it certainly matches
	}{
		{"nothing asked", inner(), "", true},
		{"our mark", inner(), match("==", mark, "536870912"), true},
		{"our mark, otherwise", inner(), match("!=", mark, "0"), true},
		{"no mark", inner(), match("==", mark, "0"), false},
		{"the whole mark, of which a bit is unknown", inner(), match("==", `{"meta": {"key": "mark"}}`, "536870912"), false},
		{"out of a state", inner(), match("==", `{"meta": {"key": "ipsec"}}`, "true"), true},
		{"into a state", inner(), match("==", `{"rt": {"key": "ipsec"}}`, "true"), false},
		{"a reqid, which may be", inner(), match("==", `{"ipsec": {"key": "reqid", "dir": "in", "spnum": 0}}`, "5"), false},
		{"source in prefix", inner(), match("==", payload("ip", "saddr"), `{"prefix": {"addr": "10.1.0.0", "len": 16}}`), true},
		{"source not in prefix", inner(), match("!=", payload("ip", "saddr"), `{"prefix": {"addr": "10.7.0.0", "len": 16}}`), true},
		{"source in a set", inner(), match("==", payload("ip", "saddr"), `{"set": ["10.9.0.1", {"range": ["10.1.0.5", "10.1.0.10"]}]}`), true},
		{"source in a named set", inner(), match("==", payload("ip", "saddr"), `"@nets"`), true},
		{"source in an empty set", inner(), match("==", payload("ip", "saddr"), `"@empty"`), false},
		{"source in a set that was not listed", inner(), match("==", payload("ip", "saddr"), `"@gone"`), false},
		{"a header of the other family", inner(), match("!=", payload("ip6", "saddr"), `"::1"`), false},
		{"interface", inner(), match("==", `{"meta": {"key": "iifname"}}`, `"wan0"`), true},
		{"interfaces by their beginning", inner(), match("==", `{"meta": {"key": "oifname"}}`, `"lan*"`), true},
		{"another interface", inner(), match("==", `{"meta": {"key": "iifname"}}`, `"lan0"`), false},
		{"no interface at this hook", outer(), match("!=", `{"meta": {"key": "oifname"}}`, `"lan0"`), false},
		{"a pair of interfaces", inner(), match("==", `{"concat": [{"meta": {"key": "iifname"}}, {"meta": {"key": "oifname"}}]}`, `{"set": [{"concat": ["wan0", "lan0"]}]}`), true},
		{"new", inner(), match("in", `{"ct": {"key": "state"}}`, `["established", "new"]`), true},
		{"established", inner(), match("in", `{"ct": {"key": "state"}}`, `["established", "related"]`), false},
		{"invalid", inner(), match("in", `{"ct": {"key": "state"}}`, `"invalid"`), false},
		{"family", inner(), match("==", `{"meta": {"key": "nfproto"}}`, `"ipv4"`), true},
		{"the other family", inner(), match("==", `{"meta": {"key": "nfproto"}}`, `"ipv6"`), false},
		{"ESP", outer(), match("==", `{"meta": {"key": "l4proto"}}`, `{"set": ["esp", "ah"]}`), true},
		{"ESP by number", outer(), match("==", payload("ip", "protocol"), `50`), true},
		{"no TCP", outer(), match("==", payload("tcp", "dport"), `22`), false},
		{"port of IKE", ike(), match("==", payload("udp", "dport"), `{"set": [500, {"range": [4500, 4510]}]}`), true},
		{"other ports than IKE's", ike(), match("!=", payload("th", "dport"), `{"set": [500, 4500]}`), false},
		{"a route back, which may be missing", inner(), match("==", `{"fib": {"result": "oif", "flags": ["saddr", "iif"]}}`, "false"), false},
		{"an xt match, which may be anything", inner(), `{"xt": null}`, false},
		{"a limit", inner(), `{"limit": {"rate": 5, "per": "second"}}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			comma := ""
			if tt.match != "" {
				comma = ", "
			}
			tb, c := table(t, "drop", tt.match+comma+`{"counter": {"packets": 0, "bytes": 0}}, {"accept": null}`)
			if f := tb.Walk(c, tt.packet); f.Dropped == tt.want || f.Dropped && f.Handle != 0 {
				t.Errorf("accept under policy drop: %+v", f)
			}
			tb, c = table(t, "accept", tt.match+comma+`{"reject": {"type": "icmpx"}}`)
			if f := tb.Walk(c, tt.packet); f.Dropped != tt.want || f.Dropped && (f.Handle != 1 || f.By != "f") {
				t.Errorf("reject under policy accept: %+v", f)
			}
		})
	}
}

// TestWalkChains follows jumps, gotos and maps of verdicts.
func TestWalkChains(t *testing.T) {
	tests := []struct {
		name  string
		rules []string
		drops bool
	}{
		{"jump to what accepts", []string{`{"jump": {"target": "other"}}`}, false},
		{"jump to what returns, and go on", []string{`{"jump": {"target": "leaves"}}`, `{"accept": null}`}, false},
		{"goto what returns, and come not back", []string{`{"goto": {"target": "leaves"}}`, `{"accept": null}`}, true},
		{"a map of the states", []string{`{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", {"drop": null}], ["new", {"accept": null}]]}}}`}, false},
		{"a named map of interfaces", []string{`{"vmap": {"key": {"concat": [{"meta": {"key": "iifname"}}, {"meta": {"key": "oifname"}}]}, "data": "@zones"}}`}, false},
		{"a map that has nothing for it", []string{`{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": {"set": [["lan0", {"accept": null}]]}}}`}, true},
		{"return is the policy", []string{`{"return": null}`, `{"accept": null}`}, true},
		{"a loop, which the kernel refuses", []string{`{"jump": {"target": "f"}}`}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tb, c := table(t, "drop", tt.rules...)
			if f := tb.Walk(c, inner()); f.Dropped != tt.drops {
				t.Errorf("got %+v", f)
			}
		})
	}
}

// TestWalkNAT tells a source that is kept from one that is rewritten.
func TestWalkNAT(t *testing.T) {
	for rule, want := range map[string]Fate{
		`{"masquerade": null}`:                            {Rewritten: true, By: "f", Handle: 1},
		`{"snat": {"family": "ip", "addr": "192.0.2.9"}}`: {Rewritten: true, By: "f", Handle: 1},
		`{"snat": {"family": "ip", "addr": {"payload": {"protocol": "ip", "field": "saddr"}}}}`:          {Kept: true, By: "f", Handle: 1},
		`{"match": {"op": "==", "left": {"rt": {"key": "ipsec"}}, "right": true}}, {"masquerade": null}`: {By: "f"},
	} {
		tb, c := table(t, "accept", rule)
		if got := tb.Walk(c, inner()); got != want {
			t.Errorf("%s: got %+v, want %+v", rule, got, want)
		}
	}
}

// TestMarks reads the changes of statements to the mark.
func TestMarks(t *testing.T) {
	const key = `{"mangle": {"key": {"meta": {"key": "mark"}}, "value": %s}}`
	tests := []struct {
		value        string
		writes, sets uint32
	}{
		{`1`, ^uint32(0), 1},
		{`{"ct": {"key": "mark"}}`, ^uint32(0), ^uint32(0)},
		{`{"|": [{"&": [{"meta": {"key": "mark"}}, 4294967040]}, 2]}`, 0xff, 2},
		{`{"|": [{"meta": {"key": "mark"}}, 4]}`, 4, 4},
		{`{"^": [{"&": [{"meta": {"key": "mark"}}, 4278255615]}, 262144]}`, 0xff0000, 0x40000},
		{`{"^": [{"meta": {"key": "mark"}}, 4]}`, 4, 4},
	}
	for _, tt := range tests {
		tb, _ := table(t, "accept", fmt.Sprintf(key, tt.value), `{"mangle": {"key": {"ct": {"key": "mark"}}, "value": {"meta": {"key": "mark"}}}}`)
		if got := tb.Marks(); len(got) != 1 || got[0] != (Mark{"f", 1, tt.writes, tt.sets}) {
			t.Errorf("%s: got %x", tt.value, got)
		}
	}
}

// TestEffect: the effect of a base chain is that of all rules that it may lead to, and of no
// other.
func TestEffect(t *testing.T) {
	const all = ^uint32(0)
	r, err := Parse([]byte(`{"nftables": [
		{"map": {"family": "inet", "name": "zones", "table": "x", "elem": [["wan0", {"jump": {"target": "restores"}}], ["lan0", {"accept": null}]]}},
		{"map": {"family": "inet", "name": "loops", "table": "x", "elem": [[{"elem": {"val": "wan0", "comment": "@loops"}}, {"accept": null}]]}},
		{"chain": {"family": "inet", "table": "x", "name": "restores"}}, {"chain": {"family": "inet", "table": "x", "name": "jumps"}},
		{"rule": {"family": "inet", "table": "x", "chain": "restores", "expr": [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}},
			{"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"ct": {"key": "mark"}}}}]}},
		{"rule": {"family": "inet", "table": "x", "chain": "jumps", "expr": [{"jump": {"target": "restores"}}]}},
		{"rule": {"family": "inet", "table": "x", "chain": "restores", "expr": [{"jump": {"target": "jumps"}}]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	x := r.Tables[0]
	restored := Effect{Writes: all, Sets: all}
	for _, tt := range []struct {
		rule string
		want Effect
	}{
		{`{"counter": null}, {"accept": null}`, Effect{}},
		{`{"jump": {"target": "jumps"}}`, restored},
		{`{"goto": {"target": "restores"}}`, restored},
		{`{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@zones"}}`, restored},
		{`{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": {"set": [["wan0", {"goto": {"target": "restores"}}]]}}}`, restored},
		{match("==", payload("ip6", "saddr"), `"::1"`) + `, {"jump": {"target": "restores"}}`, Effect{}},
		{match("==", `{"payload": {"tunnel": "vxlan", "protocol": "ip6", "field": "saddr"}}`, `"::1"`) + `, {"jump": {"target": "restores"}}`, restored},
		{match("==", `{"meta": {"key": "protocol"}}`, `"vlan"`) + `, {"jump": {"target": "restores"}}`, Effect{}},
		{match("==", payload("ip", "saddr"), `"10.0.0.1"`) + `, {"mangle": {"key": {"meta": {"key": "mark"}}, "value": 7}}`, Effect{Writes: all, Sets: 7}},
		{`{"mangle": {"key": {"ct": {"key": "mark"}}, "value": {"meta": {"key": "mark"}}}}`, Effect{}},
		{`{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": 1400}}`, Effect{}},
		{`{"mangle": {"key": {"payload": {"protocol": "ip", "field": "ttl"}}, "value": 64}}`, Effect{}},
		{`{"mangle": {"key": {"payload": {"protocol": "udp", "field": "dport"}}, "value": 53}}`, Effect{Remakes: true}},
		{`{"mangle": {"key": {"payload": {"base": "nh", "offset": 96, "len": 32}}, "value": 1}}`, Effect{Remakes: true}},
		{`{"masquerade": null}`, Effect{Rewrites: true}},
		{`{"snat": {"addr": {"payload": {"protocol": "ip", "field": "saddr"}}}}`, Effect{}},
		{`{"dnat": {"addr": "10.0.0.1"}}`, Effect{}},
		{`{"notrack": null}`, Effect{Untracks: true}},
		{match("==", `{"meta": {"key": "l4proto"}}`, `"udp"`) + `, {"notrack": null}`, Effect{}},
		{`{"dup": {"dev": "lan0"}}`, Effect{Forwards: true}},
		{`{"flow": {"op": "add", "flowtable": "@fast"}}`, Effect{Offloads: true}},
		{match("==", `{"rt": {"key": "ipsec"}}`, "false") + `, {"flow": {"op": "add", "flowtable": "@fast"}}`, Effect{Offloads: true}},
		{match("==", `{"rt": {"key": "ipsec"}}`, "false") + ", " + match("==", `{"meta": {"key": "ipsec"}}`, "false") + `, {"flow": {"op": "add", "flowtable": "@fast"}}`, Effect{}},
		{`{"xt": null}`, Effect{Writes: all, Sets: all, Rewrites: true, Ends: true}},
		{`"jump {\n\t\t\tmeta mark set ct mark\n\t\t}"`, Effect{Writes: all, Sets: all, Ends: true, Rewrites: true, Remakes: true, Untracks: true, Forwards: true, Offloads: true}},
		{`{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@loops"}}`, Effect{}},
	} {
		one, err := Parse([]byte(`{"nftables": [{"chain": {"family": "inet", "table": "x", "name": "f", "hook": "forward"}},
			{"rule": {"family": "inet", "table": "x", "chain": "f", "expr": [` + tt.rule + `]}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := x.Effect(one.Tables[0].Chains[0], false); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.rule, got, tt.want)
		}
	}
	frames := Table{Family: "netdev", Chains: []Chain{{Name: "in", Rules: []Rule{{expr: []any{
		map[string]any{"match": map[string]any{"op": "==", "left": map[string]any{"meta": map[string]any{"key": "protocol"}}, "right": "vlan"}},
		map[string]any{"fwd": map[string]any{"dev": "lan0"}},
	}}}}}}
	if got := frames.Effect(frames.Chains[0], false); !got.Forwards {
		t.Errorf("frames of a VLAN: %+v", got)
	}
	v4 := Table{Family: "ip", Chains: []Chain{x.Chains[0]}}
	if four, six := v4.Effect(v4.Chains[0], false), v4.Effect(v4.Chains[0], true); four.Writes != all || six.Writes != 0 {
		t.Errorf("a table of IPv4: %+v, %+v", four, six)
	}
}

// TestMayAskMark: a rule may decide by a bit of the mark that it compares, by itself or as a key.
func TestMayAskMark(t *testing.T) {
	const whole = `{"meta": {"key": "mark"}}`
	for rule, want := range map[string]bool{
		match("==", whole, "5"): true,
		`"jump {\n\t\tmeta mark & 0x20000000 == 0x20000000 accept\n\t}"`:                             true,
		match("==", `{"&": [`+whole+`, 805306368]}`, "805306368"):                                    true,
		match("==", `{"&": [`+whole+`, 255]}`, "1"):                                                  false,
		match("==", `{"meta": {"key": "iifname"}}`, `"wan0"`):                                        false,
		`{"vmap": {"key": ` + whole + `, "data": "@marks"}}`:                                         true,
		`{"vmap": {"key": {"concat": [{"meta": {"key": "iifname"}}, ` + whole + `]}, "data": "@m"}}`: true,
		`{"mangle": {"key": {"ct": {"key": "mark"}}, "value": ` + whole + `}}`:                       false,
	} {
		if tb, _ := table(t, "accept", rule); tb.MayAskMark(verified) != want {
			t.Errorf("%s: %t", rule, !want)
		}
	}
}

// TestParseTrash: a text that is no list of nft is an error, and never a panic.
func TestParseTrash(t *testing.T) {
	for _, text := range []string{"", "{}x", `{"nftables": [{"chain": 5}]}`, `{"nftables": {}}`} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"nftables": [{"chain": {"family": "inet", "table": "x", "name": "f", "hook": "forward"}}, {"rule": {"family": "inet", "table": "x", "chain": "f", "expr": [{"vmap": {"key": {"&": [1]}, "data": {"set": [[1, "accept"]]}}}]}}]}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		for _, t := range r.Tables {
			t.Marks()
			t.MatchesMark(verified)
			t.MayAskMark(verified)
			for _, c := range t.Chains {
				t.Effect(c, false)
				t.Walk(c, inner())
			}
		}
	})
}
