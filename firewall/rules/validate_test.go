package rules_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestValidateRule(t *testing.T) {
	type (
		rule   = rules.Rule
		target = rules.Target
		policy = rules.PolicyMatch
	)
	p := netip.MustParsePrefix
	for _, tt := range []struct {
		name  string
		table rules.Table
		from  string
		rule  rule
		want  string
	}{
		{"purpose missing", "mangle", "INPUT", rule{Purpose: ""}, "no purpose"},
		{"purpose newline", "mangle", "INPUT", rule{Purpose: "a\nb"}, "alphabet"},
		{"purpose slash", "mangle", "INPUT", rule{Purpose: "a/b"}, "slash"},
		{"tunnel quote", "mangle", "INPUT", rule{Purpose: "x", Tunnel: `a"`}, "alphabet"},
		{"tunnel long", "mangle", "INPUT", rule{Purpose: "x", Tunnel: strings.Repeat("a", 234)}, "longer than 255"},
		{"tunnel long enough", "mangle", "INPUT", rule{Purpose: "x", Tunnel: strings.Repeat("a", 233)}, ""},
		{"src of ipv6", "mangle", "INPUT", rule{Purpose: "x", Src: p("fd00::/8")}, "not of ipv4"},
		{"ct of ipv6", "mangle", "INPUT", rule{Purpose: "x", Ct: rules.CtMatch{ReplDst: p("fd00::/8")}}, "not of ipv4"},
		{"ct ports", "mangle", "INPUT", rule{Purpose: "x", Ct: rules.CtMatch{Proto: 17, OrigDPorts: firewall.Ports{Lo: 9, Hi: 7}}}, "ends before it begins"},
		{"ct port", "mangle", "INPUT", rule{Purpose: "x", Ct: rules.CtMatch{OrigSPorts: firewall.Port(500)}}, "port of any protocol"},
		{"ct empty", "mangle", "INPUT", rule{Purpose: "x", Ct: rules.CtMatch{NotState: true}}, "asks for nothing"},
		{"tunnel end of ipv6", "mangle", "INPUT", rule{Purpose: "x", Policy: policy{Dir: rules.PolicyIn, TunnelSrc: netip.MustParsePrefix("fd00::1/128")}}, "not of ipv4"},
		{"interface long", "mangle", "INPUT", rule{Purpose: "x", In: "a123456789012345"}, "can't be told"},
		{"interface quote", "mangle", "INPUT", rule{Purpose: "x", In: `eth"0`}, "can't be told"},
		{"interface not", "mangle", "INPUT", rule{Purpose: "x", In: "!"}, "can't be told"},
		{"interface option", "mangle", "INPUT", rule{Purpose: "x", In: "-j"}, "can't be told"},
		{"in at output", "mangle", "OUTPUT", rule{Purpose: "x", In: "eth0"}, "come in"},
		{"out at input", "mangle", "INPUT", rule{Purpose: "x", Out: "eth0"}, "goes out"},
		{"ports without protocol", "mangle", "INPUT", rule{Purpose: "x", DPorts: firewall.Port(1)}, "ports need"},
		{"ports of esp", "mangle", "INPUT", rule{Purpose: "x", Proto: xfrm.ESP, DPorts: firewall.Port(1)}, "ports need"},
		{"ports reversed", "mangle", "INPUT", rule{Purpose: "x", Proto: xfrm.TCP, DPorts: firewall.Ports{Lo: 2, Hi: 1}}, "upside down"},
		{"icmp without protocol", "mangle", "INPUT", rule{Purpose: "x", ICMP: rules.ICMPMatch{Set: true}}, "ICMP of its family"},
		{"icmpv6 in ipv4", "mangle", "INPUT", rule{Purpose: "x", Proto: xfrm.ICMPv6, ICMP: rules.ICMPMatch{Set: true}}, "ICMP of its family"},
		{"mark", "mangle", "INPUT", rule{Purpose: "x", Mark: rules.MarkMatch{Value: 3, Mask: 1}}, "outside of its mask"},
		{"set mark", "mangle", "INPUT", rule{Purpose: "x", Target: target{Verb: rules.SetMark, Value: 3, Mask: 1}}, "within its mask"},
		{"set mark in filter", "filter", "INPUT", rule{Purpose: "x", Target: target{Verb: rules.SetMark, Value: 1, Mask: 1}}, "mangle only"},
		{"out in prerouting", "mangle", "PREROUTING", rule{Purpose: "x", Policy: policy{Dir: rules.PolicyOut}}, "--dir out"},
		{"out in input", "mangle", "INPUT", rule{Purpose: "x", Policy: policy{Dir: rules.PolicyOut, None: true}}, "--dir out"},
		{"in in postrouting", "mangle", "POSTROUTING", rule{Purpose: "x", Policy: policy{Dir: rules.PolicyIn}}, "--dir in"},
		{"in in output", "nat", "OUTPUT", rule{Purpose: "x", Policy: policy{Dir: rules.PolicyIn}}, "--dir in"},
		{"both in forward", "mangle", "FORWARD", rule{Purpose: "x", Policy: policy{Dir: rules.PolicyIn}}, ""},
		{"policy none with more", "mangle", "INPUT", rule{Purpose: "x", Policy: policy{Dir: rules.PolicyIn, None: true, HasReqid: true}}, "ignores"},
		{"policy without direction", "mangle", "INPUT", rule{Purpose: "x", Policy: policy{HasReqid: true}}, "without direction"},
		{"policy reqid unset", "mangle", "INPUT", rule{Purpose: "x", Policy: policy{Dir: rules.PolicyIn, Reqid: 1}}, "not matched"},
		{"policy proto", "mangle", "INPUT", rule{Purpose: "x", Policy: policy{Dir: rules.PolicyIn, Proto: xfrm.TCP}}, "ESP and AH"},
		{"rpfilter in input", "mangle", "INPUT", rule{Purpose: "x", RPFilterInvert: true}, "PREROUTING"},
		{"limit", "mangle", "INPUT", rule{Purpose: "x", Limit: rules.Limit{PerSecond: 10001}}, "limit"},
		{"reject in mangle", "mangle", "INPUT", rule{Purpose: "x", Target: target{Verb: rules.Reject}}, "REJECT"},
		{"drop in nat", "nat", "OUTPUT", rule{Purpose: "x", Target: target{Verb: rules.Drop}}, "DROP in nat"},
		{"clamp without tcp", "mangle", "FORWARD", rule{Purpose: "x", Target: target{Verb: rules.ClampMSS, Size: 1}}, "clamping"},
		{"log prefix", "mangle", "INPUT", rule{Purpose: "x", Target: target{Verb: rules.Log, Prefix: strings.Repeat("x", 30)}}, "longer"},
		{"nflog prefix", "mangle", "INPUT", rule{Purpose: "x", Target: target{Verb: rules.NFLog, Prefix: "a b"}}, "alphabet"},
		{"type", "mangle", "INPUT", rule{Purpose: "x", SrcType: "LOCAL -j ACCEPT"}, "type"},
		{"target", "mangle", "INPUT", rule{Purpose: "x", Target: target{Verb: 99}}, "no such target"},
		{"chain of no jump", "mangle", "INPUT", rule{Purpose: "x", Target: target{Chain: "XFRMFW-X"}}, "without jump"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The rule stands a jump away from its hook.
			rs := rules.Ruleset{Family: xfrm.IPv4,
				Chains: []rules.Chain{
					{Table: tt.table, Name: "XFRMFW-A", Rules: rules.ListOf(jump("XFRMFW-B"))},
					{Table: tt.table, Name: "XFRMFW-B", Rules: rules.ListOf(tt.rule)},
				},
				Hooks: []rules.Hook{{Table: tt.table, From: tt.from, To: "XFRMFW-A"}},
			}
			expect(t, rules.Validate(rs), tt.want)
		})
	}
}

func TestValidateChains(t *testing.T) {
	chain := func(name string, to ...string) rules.Chain {
		c := rules.Chain{Table: "mangle", Name: name}
		for _, n := range to {
			c.Rules = rules.ListOf(append(c.Rules.Slice(), jump(n))...)
		}
		return c
	}
	var deep []rules.Chain
	for i := range 16 {
		deep = append(deep, chain(fmt.Sprintf("XFRMFW-%d", i), fmt.Sprintf("XFRMFW-%d", i+1)))
	}
	deep[15].Rules = rules.List{}
	at := func(to string) []rules.Hook { return []rules.Hook{{Table: "mangle", From: "FORWARD", To: to}} }
	for _, tt := range []struct {
		name   string
		chains []rules.Chain
		hooks  []rules.Hook
		want   string
	}{
		{"good", []rules.Chain{chain("XFRMFW-A", "XFRMFW-B", "XFRMFW-B"), chain("XFRMFW-B")}, at("XFRMFW-A"), ""},
		{"name", []rules.Chain{chain("OTHER")}, at("OTHER"), "does not begin"},
		{"long name", []rules.Chain{chain("XFRMFW-1234567890123456789012")}, nil, "longer than 28"},
		{"odd name", []rules.Chain{chain("XFRMFW- x")}, nil, "characters"},
		{"table", []rules.Chain{{Table: "raw", Name: "XFRMFW-A"}}, nil, "no such table"},
		{"twice", []rules.Chain{chain("XFRMFW-A"), chain("XFRMFW-A")}, at("XFRMFW-A"), "twice"},
		{"unreachable", []rules.Chain{chain("XFRMFW-A"), chain("XFRMFW-B")}, at("XFRMFW-A"), "XFRMFW-B: no hook"},
		{"undeclared", []rules.Chain{chain("XFRMFW-A", "XFRMFW-B")}, at("XFRMFW-A"), "not declared"},
		{"undeclared hook", []rules.Chain{chain("XFRMFW-A")}, at("XFRMFW-B"), "not declared"},
		{"cycle", []rules.Chain{chain("XFRMFW-A", "XFRMFW-B"), chain("XFRMFW-B", "XFRMFW-A")}, at("XFRMFW-A"), "back to itself"},
		{"two hooks", []rules.Chain{chain("XFRMFW-A")}, append(at("XFRMFW-A"), at("XFRMFW-A")...), "two hooks"},
		{"no builtin", []rules.Chain{chain("XFRMFW-A")}, []rules.Hook{{Table: "filter", From: "PREROUTING", To: "XFRMFW-A"}}, "no such builtin"},
		{"deep", deep, at("XFRMFW-0"), "16 jumps deep"},
		{"not too deep", deep[1:], at("XFRMFW-1"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, rules.Validate(rules.Ruleset{Family: xfrm.IPv4, Chains: tt.chains, Hooks: tt.hooks}), tt.want)
		})
	}
}

func jump(to string) rules.Rule {
	return rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: to}, Purpose: "x"}
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got %v, want none", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want %q", err, want)
	}
}
