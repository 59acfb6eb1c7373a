package explain

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }

// sun is the gateway of these tests: a tunnel to moon, with reqid 11, and one by
// an xfrm interface, with reqid 12, that is down.
func sun() xfrm.Snapshot {
	s := xfrm.Snapshot{Schema: xfrm.SchemaVersion, Host: xfrm.Host{
		Links: []xfrm.Link{
			{Index: 1, Name: "lo", Up: true}, {Index: 2, Name: "wan0", Up: true}, {Index: 3, Name: "lan0", Up: true},
			{Index: 4, Name: "ipsec0", Kind: "xfrm", IfID: 7, Up: true},
		},
		Addresses: []xfrm.Address{
			{Link: 1, Prefix: pfx("127.0.0.1/8")}, {Link: 2, Prefix: pfx("192.0.2.2/24")}, {Link: 3, Prefix: pfx("10.2.0.1/24")},
			{Link: 2, Prefix: pfx("2001:db8:ffff::2/64")},
		},
		Routes: []xfrm.Route{
			{Dst: pfx("192.0.2.0/24"), Link: 2, Table: 254, Connected: true}, {Dst: pfx("10.2.0.0/24"), Link: 3, Table: 254, Connected: true},
			{Dst: pfx("10.1.0.0/24"), Link: 2, Via: ip("192.0.2.1"), Table: 254}, {Dst: pfx("10.7.0.0/24"), Link: 4, Table: 254},
		},
	}}
	for _, site := range []sample.Site{
		{Reqid: 11, Local: "192.0.2.2", Remote: "192.0.2.1", Pairs: [][2]string{{"10.2.0.0/24", "10.1.0.0/24"}}},
		{Reqid: 12, Local: "192.0.2.2", Remote: "192.0.2.7", Pairs: [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}}, IfID: 7, Down: true},
		{Reqid: 13, Local: "192.0.2.2", Remote: "192.0.2.9", Pairs: [][2]string{{"10.2.0.0/24", "10.9.0.0/24"}}, Down: true},
	} {
		s.Policies, s.States = append(s.Policies, site.Policies()...), append(s.States, site.States()...)
	}
	for _, action := range []struct {
		dst string
		xfrm.Action
	}{{"10.1.0.128/25", xfrm.Allow}, {"10.1.0.64/26", xfrm.Block}} {
		s.Policies = append(s.Policies, xfrm.Policy{Dir: xfrm.Out, Priority: 5, Action: action.Action,
			Selector: xfrm.Selector{Family: xfrm.IPv4, Src: pfx("10.2.0.0/24"), Dst: pfx(action.dst)}})
	}
	s.Host.Routes = append(s.Host.Routes, xfrm.Route{Dst: pfx("10.9.0.0/24"), Link: 2, Table: 254})
	return s
}

func world(s xfrm.Snapshot, config firewall.Config) World {
	config.Marks = firewall.DefaultMarks()
	set := xfrm.Tunnels(s)
	return World{
		Snapshot: s, Set: set, Marks: config.Marks,
		Result: compile.Compile(firewall.Input{Set: set, Host: s.Host, Config: config}),
	}
}

func query(src, dst string, tune func(*Query)) Query {
	q := Query{Src: ip(src), Dst: ip(dst), Proto: xfrm.TCP, DPort: 22}
	if tune != nil {
		tune(&q)
	}
	return q
}

func TestVerdicts(t *testing.T) {
	w := world(sun(), firewall.Config{})
	for _, test := range []struct {
		name   string
		query  Query
		action Action
		by     By
		number string
		reqid  uint32 // of the tunnel, 0 for none
		way    string
	}{
		{"out of the tunnel", query("10.1.0.9", "10.2.0.5", func(q *Query) { q.HasReqid, q.Reqid, q.Tag = true, 11, true }), Accepted, Ours, "1", 11, "forward"},
		{"without TAG", query("10.1.0.9", "10.2.0.1", func(q *Query) { q.HasReqid, q.Reqid = true, 11 }), Accepted, Ours, "3", 11, "input"},
		{"of another's addresses", query("10.3.0.9", "10.2.0.5", func(q *Query) { q.HasReqid, q.Reqid, q.In = true, 11, "wan0" }), Dropped, Ours, "7", 11, "forward"},
		{"of no tunnel's reqid", query("10.3.0.9", "10.2.0.1", func(q *Query) { q.HasReqid, q.Reqid, q.In = true, 99, "wan0" }), Dropped, Kernel, "7b", 0, "input"},
		{"the same, from a tunnel's source", query("10.1.0.9", "10.2.0.1", func(q *Query) { q.HasReqid, q.Reqid, q.In = true, 99, "wan0" }), Dropped, Ours, "7b", 11, "input"},
		{"an error from a router inside", query("172.16.9.9", "10.2.0.5", func(q *Query) {
			q.HasReqid, q.Reqid, q.In, q.Ct, q.Proto, q.DPort, q.ICMPType = true, 11, "wan0", CtRelated, xfrm.ICMP, 0, 3
		}), Dropped, Ours, "7", 11, "forward"}, // about a flow with the router itself, which is none of the tunnel's
		{"an error from the far host", query("10.1.0.9", "10.2.0.5", func(q *Query) {
			q.HasReqid, q.Reqid, q.Ct, q.Proto, q.DPort, q.ICMPType = true, 11, CtRelated, xfrm.ICMP, 0, 3
		}), Accepted, Ours, "3", 11, "forward"},
		{"spoof, before the kernel would refuse it", query("10.1.0.9", "10.2.0.5", func(q *Query) { q.In = "wan0" }), Dropped, Ours, "6", 11, "forward"},
		{"spoof to the host", query("10.1.0.9", "10.2.0.1", func(q *Query) { q.In = "wan0" }), Dropped, Ours, "6", 11, "input"},
		{"spoof of a device's tunnel", query("10.7.0.9", "10.2.0.5", func(q *Query) { q.In = "wan0" }), Dropped, Ours, "6", 12, "forward"},
		{"inject", query("10.2.0.9", "10.1.0.5", func(q *Query) { q.In = "wan0" }), Dropped, Ours, "6b", 11, "forward"},
		{"from the LAN into the tunnel", query("10.2.0.9", "10.1.0.5", func(q *Query) { q.In = "lan0" }), Accepted, Ours, "", 11, "forward"},
		{"of the host into the tunnel", query("10.2.0.1", "10.1.0.5", nil), Accepted, Ours, "", 11, "output"},
		{"bypass", query("10.2.0.9", "10.1.0.200", nil), Returned, Rest, "9", 0, "forward"},
		{"block", query("10.2.0.9", "10.1.0.70", nil), Dropped, Kernel, "8", 11, "forward"},
		{"no state", query("10.2.0.1", "10.9.0.5", nil), Dropped, Kernel, "9", 13, "output"},
		{"no state, forwarded", query("10.2.0.9", "10.9.0.5", nil), Dropped, Kernel, "8", 13, "forward"},
		{"into a device without states", query("10.2.0.9", "10.7.0.5", nil), Dropped, Kernel, "", 12, "forward"},
		{"ESP", query("192.0.2.1", "192.0.2.2", func(q *Query) { q.Proto, q.DPort = xfrm.ESP, 0 }), Accepted, Ours, "", 11, "input"},
		{"ESP of the host", query("192.0.2.2", "192.0.2.1", func(q *Query) { q.Proto, q.DPort = xfrm.ESP, 0 }), Accepted, Ours, "", 11, "output"},
		{"IKE of anybody", query("192.0.2.77", "192.0.2.2", func(q *Query) { q.Proto, q.DPort = xfrm.UDP, 500 }), Accepted, Ours, "", 0, "input"},
		{"stray marks", query("192.0.2.77", "192.0.2.2", func(q *Query) { q.Mark, q.In = 1<<29, "wan0" }), Returned, Rest, "5", 0, "input"},
		{"nothing of ours", query("192.0.2.77", "192.0.2.2", nil), Returned, Rest, "9", 0, "input"},
		{"multicast", query("10.1.0.9", "224.0.0.5", func(q *Query) { q.In = "wan0" }), Returned, Rest, "9", 0, "input"},
		{"broadcast", query("10.2.0.9", "10.2.0.255", nil), Returned, Rest, "9", 0, "input"},
		{"over lo", query("10.2.0.1", "192.0.2.2", nil), Returned, Rest, "9", 0, "output"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, err := w.Explain(test.query)
			if err != nil {
				t.Fatal(err)
			}
			reqid := uint32(0)
			if e.Tunnel != nil {
				reqid = e.Tunnel.Reqid
			}
			v := e.Verdict
			if v.Action != test.action || v.By != test.by || v.Case != test.number || reqid != test.reqid || e.Packet.Way != test.way {
				t.Errorf("%s by %s, case %q, reqid %d, %s; want %s by %s, case %q, reqid %d, %s\n%s",
					v.Action, v.By, v.Case, reqid, e.Packet.Way, test.action, test.by, test.number, test.reqid, test.way, textOf(t, e))
			}
		})
	}
}

// Tunnels that are gone, but guarded.
func TestGuards(t *testing.T) {
	s := sun()
	s.Policies, s.States = nil, nil
	s.Host.Addresses = append(s.Host.Addresses, xfrm.Address{Link: 3, Prefix: pfx("10.22.0.1/24")})
	for _, next := range []string{"10.1.1.0/24", "10.7.1.0/24"} {
		s.Host.Routes = append(s.Host.Routes, xfrm.Route{Dst: pfx(next), Link: 2, Table: 254})
	}
	w := world(s, firewall.Config{})
	w.Result = compile.Compile(firewall.Input{
		Set: w.Set, Host: s.Host, Config: firewall.Config{Marks: w.Marks}, NATSources: []netip.Prefix{pfx("10.22.0.9/32")},
		Guards: []guard.Guard{
			{Local: pfx("10.2.0.0/24"), Remote: pfx("10.1.0.0/24"), Source: guard.FromMemory, Tunnel: "tgone"},
			{Local: pfx("10.22.0.0/24"), Remote: pfx("10.7.0.0/24"), Source: guard.FromMemory, Tunnel: "tmapped"},
			// Neighbours of both, with which they have one rule.
			{Local: pfx("10.2.0.0/24"), Remote: pfx("10.1.1.0/24"), Source: guard.FromMemory, Tunnel: "tnext"},
			{Local: pfx("10.22.0.0/24"), Remote: pfx("10.7.1.0/24"), Source: guard.FromMemory, Tunnel: "tbeside"},
		},
	})
	for _, test := range []struct {
		name   string
		query  Query
		action Action
		number string
		tunnel string
	}{
		{"leak", query("10.2.0.9", "10.1.0.5", nil), Rejected, "8", "tgone"},
		{"leak of the host", query("10.2.0.1", "10.1.0.5", nil), Rejected, "8", "tgone"},
		{"leak that SNAT would map", query("10.2.0.9", "10.7.0.5", nil), Rejected, "8d", "tmapped"},
		{"an error that quotes", query("192.0.2.2", "10.1.0.5", func(q *Query) { q.Proto, q.DPort, q.ICMPType = xfrm.ICMP, 0, 11 }), Dropped, "8c", "tgone"},
		{"spoof", query("10.1.0.9", "10.2.0.5", nil), Dropped, "6", "tgone"},
		{"leak to a neighbour", query("10.2.0.9", "10.1.1.5", nil), Rejected, "8", "tnext"},
		{"leak to a neighbour that SNAT would map", query("10.2.0.9", "10.7.1.5", nil), Rejected, "8d", "tbeside"},
		{"an error that quotes a neighbour", query("192.0.2.2", "10.1.1.5", func(q *Query) { q.Proto, q.DPort, q.ICMPType = xfrm.ICMP, 0, 11 }), Dropped, "8c", "tnext"},
		{"spoof of a neighbour", query("10.1.1.9", "10.2.0.5", nil), Dropped, "6", "tnext"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, err := w.Explain(test.query)
			if err != nil {
				t.Fatal(err)
			}
			v := e.Verdict
			if v.Action != test.action || v.By != Ours || v.Case != test.number || e.Tunnel == nil || e.Tunnel.ID != test.tunnel || e.Tunnel.State != "remembered" {
				t.Errorf("%s, case %s, tunnel %v; want %s, case %s, %s\n%s", v.Action, v.Case, e.Tunnel, test.action, test.number, test.tunnel, textOf(t, e))
			}
		})
	}
}

// The verdict is that of the specification. Rules that give another one are a fault, unless
// iptables lacks an extension for them.
func TestRulesThatDiffer(t *testing.T) {
	spoof := query("10.1.0.9", "10.2.0.1", func(q *Query) { q.In = "wan0" })
	for _, test := range []struct {
		name     string
		degraded bool
		action   Action
		number   string
		fault    string
		warning  string
	}{
		{"a fault", false, Dropped, "6", "the rules give another verdict: return by case 9. This is a fault of xfrmfw", ""},
		{"an extension is missing, and the kernel drops the packet", true, Dropped, "9", "", "with all extensions of iptables: drop by case 6"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := world(sun(), firewall.Config{})
			for i := range w.Result.Rulesets {
				w.Result.Rulesets[i].Chains, w.Result.Rulesets[i].Hooks = nil, nil
			}
			w.Result.Degraded = test.degraded
			e, err := w.Explain(spoof)
			if err != nil {
				t.Fatal(err)
			}
			if e.Verdict.Action != test.action || e.Verdict.Case != test.number {
				t.Errorf("%s, case %s; want %s, case %s", e.Verdict.Action, e.Verdict.Case, test.action, test.number)
			}
			if (e.Fault != "") != (test.fault != "") || !strings.HasPrefix(e.Fault, test.fault) || test.fault != "" && !strings.Contains(textOf(t, e), "\nFAULT    "+test.fault) {
				t.Errorf("fault %q", e.Fault)
			}
			if got := strings.Join(e.Warnings, "\n"); got != test.warning {
				t.Errorf("warnings %q", got)
			}
		})
	}
}

// The rules agree with the specification for every query between these addresses.
func TestRulesAgree(t *testing.T) {
	w := world(sun(), firewall.Config{})
	addresses := []string{"10.1.0.9", "10.1.0.200", "10.1.0.70", "10.2.0.1", "10.2.0.9", "10.7.0.5", "10.9.0.5", "192.0.2.1"}
	n := 0
	for _, src := range addresses {
		for _, dst := range addresses {
			for _, in := range []string{"", "wan0", "lan0", "ipsec0"} {
				for _, reqid := range []uint32{0, 11, 99} {
					for _, tag := range []bool{false, true} {
						for _, ct := range []string{CtNew, CtEstablished, CtRelated} {
							if tag && reqid == 0 {
								continue
							}
							e, err := w.Explain(query(src, dst, func(q *Query) {
								q.In, q.Ct, q.Tag, q.Reqid, q.HasReqid = in, ct, tag, reqid, reqid != 0
								if ct == CtRelated {
									q.Proto, q.DPort, q.ICMPType = xfrm.ICMP, 0, 3
								}
							}))
							if err != nil {
								continue
							}
							if n++; e.Fault != "" {
								t.Errorf("%s\n%s", e.Fault, textOf(t, e))
							}
						}
					}
				}
			}
		}
	}
	if n < 1000 {
		t.Errorf("only %d queries were explained", n)
	}
}

func textOf(t *testing.T, e Explanation) string {
	t.Helper()
	var b bytes.Buffer
	if err := e.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSlips(t *testing.T) {
	w := world(sun(), firewall.Config{})
	for _, test := range []struct {
		query Query
		want  string
	}{
		{query("10.1.0.9", "fd00::1", nil), "two families"},
		{query("10.1.0.9", "10.2.0.5", func(q *Query) { q.In = "eth9" }), "--in eth9: there is no such interface; there are lo, wan0, lan0, ipsec0"},
		{query("10.1.0.9", "10.2.0.1", func(q *Query) { q.In, q.Out = "wan0", "lan0" }), "for this host itself"},
		{query("10.2.0.1", "10.1.0.9", func(q *Query) { q.Tag = true }), "--tag is for packets that come in"},
		{query("10.2.0.9", "203.0.113.9", nil), "no route leads to 203.0.113.9: name the interface with --out"},
		{query("203.0.113.9", "10.2.0.9", nil), "no route leads back to 203.0.113.9: name the interface with --in"},
		{query("::ffff:10.1.0.9", "::ffff:10.2.0.5", nil), "IPv4-mapped"},
	} {
		_, err := w.Explain(test.query)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s to %s: %v, want %q", test.query.Src, test.query.Dst, err, test.want)
		}
	}
}

// The rules that stand are not always the wanted ones.
func TestLiveRules(t *testing.T) {
	w := world(sun(), firewall.Config{})
	q := query("10.1.0.9", "10.2.0.5", func(q *Query) { q.HasReqid, q.Reqid, q.Tag = true, 11, true })
	explain := func(saved string) Explanation {
		t.Helper()
		save, err := live.Parse([]byte(saved))
		if err != nil {
			t.Fatal(err)
		}
		w.Live = map[xfrm.Family]live.Tables{xfrm.IPv4: save, xfrm.IPv6: {}}
		change, err := plan.Make(w.Result.Rulesets, w.Live)
		if err != nil {
			t.Fatal(err)
		}
		w.Differences = change.Differences
		e, err := w.Explain(q)
		if err != nil {
			t.Fatal(err)
		}
		if e.InSync == nil || *e.InSync != (e.Live == nil) {
			t.Fatalf("in sync %v, live %v", e.InSync, e.Live)
		}
		return e
	}
	full := saved(w.Result.Rulesets[0])
	if e := explain(full); e.Live != nil || e.Verdict.Action != Accepted {
		t.Errorf("in sync: live %v, verdict %v", e.Live, e.Verdict)
	}
	if e := explain(""); e.Live == nil || e.Live.Action != Returned || len(e.LiveSteps) != 0 {
		t.Errorf("without rules: live %v", e.Live)
	}
	without := ""
	for line := range strings.Lines(full) {
		if !strings.Contains(line, "/verified/") {
			without += line
		}
	}
	if e := explain(without); e.Live == nil || e.Live.Action != Dropped || e.Live.Case != "7" {
		t.Errorf("without the verifying rule: live %v", e.Live)
	}
	odd := strings.Replace(full, "*filter\n", "*filter\n:FORWARD DROP [0:0]\n", 1)
	odd = strings.Replace(odd, "-A XFRMFW-SEL ", "-A XFRMFW-SEL -s 10.1.0.9/32 -j DROP\n-A XFRMFW-SEL ", 1)
	odd = strings.Replace(odd, "-A XFRMFW-SPOOF ", "-A XFRMFW-SPOOF -j ACCEPT\n-A XFRMFW-SPOOF ", 1)
	if e := explain(odd); len(e.OddRules) != 1 || e.OddRules[0] != "mangle: -A XFRMFW-SEL -s 10.1.0.9/32 -j DROP" {
		t.Errorf("odd rules on the way: %q", e.OddRules)
	}
}

// saved prints a rule set as iptables-save would.
func saved(rs rules.Ruleset) string {
	var b strings.Builder
	for _, table := range []rules.Table{rules.Mangle, rules.Filter, rules.NAT} {
		b.WriteString("*" + string(table) + "\n")
		for _, h := range rs.Hooks {
			if h.Table == table {
				b.WriteString(":" + h.From + " ACCEPT [0:0]\n")
			}
		}
		for _, c := range rs.Chains {
			if c.Table == table {
				b.WriteString(":" + c.Name + " - [0:0]\n")
			}
		}
		for _, h := range rs.Hooks {
			if h.Table == table {
				rule := rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: h.To}, Purpose: rules.PurposeJump}
				b.WriteString("-A " + h.From + " " + string(rules.AppendLine(nil, rs.Family, table, h.From, rule)) + "\n")
			}
		}
		for _, c := range rs.Chains {
			if c.Table == table {
				for _, r := range c.Rules.All() {
					b.WriteString("-A " + c.Name + " " + string(rules.AppendLine(nil, rs.Family, table, c.Name, r)) + "\n")
				}
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// The keys of the JSON form are a promise.
func TestJSONKeys(t *testing.T) {
	e, err := world(sun(), firewall.Config{}).Explain(query("10.1.0.9", "10.2.0.5", func(q *Query) { q.HasReqid, q.Reqid = true, 11 }))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"policies", "steps", "live_steps", "odd_rules", "warnings"} {
		if strings.Contains(b.String(), `"`+list+`": null`) || !strings.Contains(b.String(), `"`+list+`": [`) {
			t.Errorf("%s is no list", list)
		}
	}
	var m struct {
		Schema  int
		Packet  map[string]any
		Tunnel  map[string]any
		Verdict map[string]any
		Steps   []map[string]any
	}
	if err := json.Unmarshal(b.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"packet": {"src", "dst", "proto", "sport", "dport", "icmp_type", "icmp_code", "way", "in", "out", "mark", "reqid", "ctstate", "assumed"},
		"tunnel": {"id", "name", "state", "reqid"}, "verdict": {"action", "by", "case", "name", "rule", "counter", "text"},
		"steps": {"hook", "table", "chain", "place", "id", "purpose", "tunnel", "rule", "unreached"},
	} {
		of := map[string]map[string]any{"packet": m.Packet, "tunnel": m.Tunnel, "verdict": m.Verdict, "steps": m.Steps[0]}[name]
		if len(of) != len(want) {
			t.Errorf("%s has %d keys, want %q", name, len(of), want)
		}
		for _, key := range want {
			if _, ok := of[key]; !ok {
				t.Errorf("%s lacks %s", name, key)
			}
		}
	}
}

// A packet into a tunnel passes the hooks with the interface that leads to the peer, wherever
// its inner route leads; one in clear keeps its own.
func TestPacketsIntoATunnelLeaveByItsPeer(t *testing.T) {
	s := sun()
	for i, r := range s.Host.Routes {
		if r.Dst == pfx("10.1.0.0/24") {
			s.Host.Routes[i].Link = 3
		}
	}
	w := world(s, firewall.Config{})
	for dst, want := range map[string]string{"10.1.0.9": "wan0", "10.1.0.200": "lan0"} { // the second is a bypass
		for _, in := range []string{"lan0", ""} {
			q := Query{In: in, Src: ip("10.2.0.9"), Dst: ip(dst), Proto: xfrm.TCP, DPort: 80}
			if in == "" {
				q.Src = ip("10.2.0.1") // this host's own
			}
			p, err := w.place(q)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.walk(w.Result.Rulesets[0], p).packet.Out; got != want {
				t.Errorf("from %s to %s: out by %s, want %s", q.Src, dst, got, want)
			}
		}
	}
}

// Of tunnels that share a VTI, the packet's source names the one that it came out of.
func TestTunnelOfASharedDevice(t *testing.T) {
	s := xfrm.Snapshot{Schema: xfrm.SchemaVersion, Host: sun().Host}
	s.Host.Links = append(s.Host.Links, xfrm.Link{Index: 5, Name: "vti0", Kind: "vti", Local: ip("192.0.2.2"), IKey: 42, OKey: 42, Up: true})
	want := map[string]uint32{"10.1.0.9": 11, "10.3.0.9": 12}
	for src, reqid := range want {
		network := netip.PrefixFrom(ip(src), 24).Masked()
		s.Host.Routes = append(s.Host.Routes, xfrm.Route{Dst: network, Link: 5, Table: 254})
		site := sample.Site{Reqid: reqid, Local: "192.0.2.2", Remote: "192.0.2." + src[3:4], Pairs: [][2]string{{"0.0.0.0/0", network.String()}}, Mark: xfrm.Mark{Value: 42, Mask: 0xffffffff}}
		s.States, s.Policies = append(s.States, site.States()...), append(s.Policies, site.Policies()...)
	}
	w := world(s, firewall.Config{})
	for src, reqid := range want {
		e, err := w.Explain(query(src, "10.2.0.5", func(q *Query) { q.In, q.Tag = "vti0", true }))
		if err != nil {
			t.Fatal(err)
		}
		if e.Tunnel == nil || e.Tunnel.Reqid != reqid {
			t.Errorf("from %s: the tunnel is %v, want that with reqid %d", src, e.Tunnel, reqid)
		}
	}
}
