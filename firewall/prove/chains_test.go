package prove

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// Statements of other programs, as nft prints them.
const (
	restores = `{"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"ct": {"key": "mark"}}}}`
	clears   = `{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}}`
	ownBits  = `{"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"|": [{"&": [{"meta": {"key": "mark"}}, 4294967040]}, 2]}}}`
	source   = `{"mangle": {"key": {"payload": {"protocol": "ip", "field": "saddr"}}, "value": "192.0.2.9"}}`
	spares   = `{"match": {"op": "==", "left": {"rt": {"key": "ipsec"}}, "right": false}}, {"match": {"op": "==", "left": {"meta": {"key": "ipsec"}}, "right": false}}, `
	offload  = `{"flow": {"op": "add", "flowtable": "@fast"}}`
	masks    = `{"masquerade": null}`
	untracks = `{"notrack": null}`
)

// chain is a base chain of another program with one rule.
type chain struct {
	family, kind, hook string
	priority           int
	rule               string
}

// listed is a list of nft with a table of some chains, and another one of the same table that
// accepts VERIFIED in forward at priority 20.
func listed(t *testing.T, accepts bool, list ...chain) foreign.Ruleset {
	t.Helper()
	if accepts {
		list = append(list, chain{"inet", "filter", "forward", 20, `{"vmap": {"key": {"&": [{"meta": {"key": "mark"}}, 536870912]}, "data": {"set": [[536870912, {"accept": null}]]}}}`})
	}
	text := `{"nftables": [{"metainfo": {"json_schema_version": 1}}`
	for i, c := range list {
		text += fmt.Sprintf(`, {"chain": {"family": %[1]q, "table": "theirs", "name": "c%[6]d", "type": %[2]q, "hook": %[3]q, "prio": %[4]d, "policy": "accept"}},
			{"rule": {"family": %[1]q, "table": "theirs", "chain": "c%[6]d", "handle": 2, "expr": [%[5]s]}}`, c.family, c.kind, c.hook, c.priority, c.rule, i)
	}
	r, err := foreign.Parse([]byte(text + "]}"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A base chain of another program breaks the properties that do not hold whatever it does at
// its place, and is named. At another place, or with another statement, it is harmless.
func TestChainsCanUndo(t *testing.T) {
	site := sample.Snapshot(sample.Sun(), sample.Site{Reqid: 11, Local: "192.0.2.2", Remote: "203.0.113.1", Pairs: [][2]string{{"10.2.0.0/24", "10.1.0.0/24"}}})
	plain := newGateway("plain", firewall.Input{Set: xfrm.Tunnels(site), Host: site.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}}, xfrm.IPv4)
	enforcing := newGateway("enforce", firewall.Input{Set: xfrm.Tunnels(site), Host: site.Host, Config: firewall.Config{Marks: firewall.DefaultMarks(), Enforce: true}}, xfrm.IPv4)
	offloaded := site
	offloaded.States = slices.Clone(site.States)
	for i := range offloaded.States {
		offloaded.States[i].Offload = xfrm.Offload{Ifindex: 2, Flags: 4}
	}
	offloading := newGateway("packet offload", firewall.Input{Set: xfrm.Tunnels(offloaded), Host: site.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}}, xfrm.IPv4)
	var vti gateway
	for _, f := range faults() {
		if f.Name == "out of a VTI, from what is routed into it" {
			vti = newGateway(f.Name, f.Input, xfrm.IPv4)
		}
	}
	arriving := []string{"crossed", "spoof", "inject", "kernel-in"}
	leaving := append([]string{"leak", "leak-nat", "leak-error", "kernel-out"}, arriving...)
	known := []string{"spoof", "inject", "leak", "kernel-in"}
	for _, tt := range []struct {
		name string
		on   *gateway
		chain
		accepts bool
		// rules and table are properties that fail, by engine: none means that all hold.
		rules, table []string
	}{
		{"sets VERIFIED before the rules", &plain, chain{"inet", "filter", "prerouting", -200, restores}, false, nil, nil},
		{"sets it behind mangle PREROUTING", &plain, chain{"inet", "filter", "prerouting", -140, restores}, false, []string{"verified"}, nil},
		{"sets it for this host before filter", &plain, chain{"inet", "filter", "input", -3, restores}, false, []string{"forged"}, []string{"forged"}},
		{"sets it between mangle and the table", &plain, chain{"inet", "filter", "forward", -10, restores}, false, []string{"forged"}, nil},
		{"sets it with filter", &plain, chain{"inet", "filter", "forward", 0, restores}, false, []string{"forged"}, []string{"forged", "verified"}},
		{"sets it where none asks any more", &plain, chain{"inet", "filter", "forward", 10, restores}, false, nil, nil},
		{"sets it before another program asks", &plain, chain{"inet", "filter", "forward", 10, restores}, true, []string{"forged"}, []string{"forged", "verified"}},
		{"sets it in the other family", &plain, chain{"ip6", "filter", "forward", -3, restores}, false, nil, nil},
		{"sets it as a frame arrives", &plain, chain{"netdev", "filter", "ingress", 0, restores}, false, nil, nil},
		{"sets it as a frame arrives, by a device", &vti, chain{"netdev", "filter", "ingress", 0, restores}, false, []string{"verified"}, []string{"verified"}},
		{"sets it on outer packets, of a device", &vti, chain{"inet", "filter", "input", 10, restores}, false, []string{"verified"}, []string{"verified"}},
		{"sets it where the kernel has dropped the path", &offloading, chain{"inet", "filter", "prerouting", 20, restores}, false, []string{"forged"}, []string{"verified", "forged"}},
		{"sets TAG before the rules", &enforcing, chain{"inet", "filter", "prerouting", -200, restores}, false, []string{"confirmed"}, []string{"confirmed"}},
		{"sets TAG on outer packets", &enforcing, chain{"inet", "filter", "input", 10, restores}, false, []string{"confirmed"}, []string{"confirmed"}},
		{"sets TAG behind the rules", &enforcing, chain{"inet", "filter", "forward", 10, restores}, false, nil, nil},
		{"clears it behind mangle PREROUTING", &plain, chain{"inet", "filter", "prerouting", -140, clears}, false, nil, nil},
		{"clears it before filter", &plain, chain{"inet", "filter", "forward", -3, clears}, false, nil, []string{"wiped"}},
		{"clears it for this host", &plain, chain{"inet", "filter", "input", -3, clears}, false, nil, []string{"wiped"}},
		{"clears it behind filter", &plain, chain{"inet", "filter", "forward", 10, clears}, false, nil, nil},
		{"writes bits of its own", &plain, chain{"inet", "filter", "forward", -3, ownBits}, false, nil, nil},
		{"is a program of its own", &plain, chain{"inet", "filter", "forward", -3, `{"queue": {"num": 0}}`}, false, []string{"forged"}, []string{"forged", "wiped"}},
		{"is a program of its own, first", &plain, chain{"inet", "filter", "forward", -300, `{"queue": {"num": 0}}`}, false, []string{"inject-dnat"}, []string{"spoof", "verified"}},
		{"is a program of its own, before all", &plain, chain{"inet", "filter", "prerouting", -300, `{"queue": {"num": 0}}`}, false, []string{"crossed", "inject"}, []string{"crossed", "inject"}},
		{"is a program of its own, at the last hook", &plain, chain{"inet", "filter", "postrouting", -300, `{"queue": {"num": 0}}`}, false, []string{"leak", "kernel-out"}, []string{"leak", "kernel-out"}},
		{"is a program of its own, behind the rules", &plain, chain{"inet", "filter", "postrouting", 300, `{"queue": {"num": 0}}`}, false, nil, nil},
		{"masquerades first", &plain, chain{"inet", "nat", "postrouting", -195, masks}, false, []string{"nat"}, []string{"nat"}},
		{"masquerades at the same priority", &plain, chain{"ip", "nat", "postrouting", -190, masks}, false, []string{"nat"}, []string{"nat"}},
		{"masquerades", &plain, chain{"ip", "nat", "postrouting", -189, masks}, false, nil, nil},
		{"keeps the source", &plain, chain{"ip", "nat", "postrouting", -195, `{"snat": {"addr": {"payload": {"protocol": "ip", "field": "saddr"}}}}`}, false, nil, nil},
		{"maps destinations", &plain, chain{"ip", "nat", "prerouting", -195, `{"dnat": {"addr": "10.1.0.1"}}`}, false, nil, nil},
		{"knows no flow", &plain, chain{"inet", "filter", "prerouting", -300, untracks}, false, []string{"spoof-error"}, []string{"spoof-error"}},
		{"knows no flow of DNS", &plain, chain{"inet", "filter", "prerouting", -300, match("udp", "dport", "53") + untracks}, false, nil, nil},
		{"is too late for that", &plain, chain{"inet", "filter", "prerouting", -150, untracks}, false, nil, nil},
		{"writes addresses first", &plain, chain{"ip", "filter", "prerouting", -300, source}, false, nil, nil},
		{"writes them behind the rules", &plain, chain{"ip", "filter", "forward", 10, source}, false, arriving, arriving},
		{"writes them last", &plain, chain{"ip", "filter", "postrouting", 300, source}, false, leaving, leaving},
		{"writes them as a frame leaves", &plain, chain{"netdev", "filter", "egress", 0, source}, false, leaving, leaving},
		{"writes them on a bridge", &plain, chain{"bridge", "filter", "output", 0, source}, false, leaving, leaving},
		{"writes them between the ports of a bridge", &plain, chain{"bridge", "filter", "forward", 0, source}, false, nil, nil},
		{"writes the class of service", &plain, chain{"ip", "filter", "forward", 10, `{"mangle": {"key": {"payload": {"protocol": "ip", "field": "dscp"}}, "value": "cs1"}}`}, false, nil, nil},
		{"sends frames on", &plain, chain{"netdev", "filter", "ingress", 0, `{"fwd": {"dev": "eth1"}}`}, false, leaving, leaving},
		{"offloads flows", &plain, chain{"inet", "filter", "forward", 0, offload}, false, known, known},
		{"offloads flows but those of tunnels", &plain, chain{"inet", "filter", "forward", 0, spares + offload}, false, nil, nil},
		{"accepts", &plain, chain{"inet", "filter", "prerouting", -300, `{"accept": null}`}, false, nil, nil},
	} {
		others := Chains(listed(t, tt.accepts, tt.chain), xfrm.IPv4, live.Tables{}, tt.on.facts.Marks)
		for engine, want := range map[string][]string{"iptables": tt.rules, "nftables": tt.table} {
			w := evaluate.NewBeside(tt.on.sets[xfrm.IPv4], program.Companion(&tt.on.facts), &tt.on.facts, Values(tt.on.in))
			if engine == "nftables" {
				w = tt.on.table(xfrm.IPv4, false)
			}
			var broken []string
			for _, f := range Prove(w, &tt.on.facts, tt.on.in, others, nil) {
				broken = append(broken, f.Property.Name)
				if name := fmt.Sprintf("nftables table %s theirs, chain c0 (hook %s, priority %d)", tt.family, tt.hook, tt.priority); !slices.Equal(f.By, []string{name}) {
					t.Errorf("%s, %s: %s fails by %v", tt.name, engine, f.Property.Name, f.By)
				}
			}
			for _, name := range want {
				if !slices.Contains(broken, name) {
					t.Errorf("%s, %s: %s holds, of %v", tt.name, engine, name, broken)
				}
			}
			if len(want) == 0 && len(broken) > 0 {
				t.Errorf("%s, %s: %v fail", tt.name, engine, broken)
			}
		}
	}
}

func match(header, field, is string) string {
	return fmt.Sprintf(`{"match": {"op": "==", "left": {"payload": {"protocol": %q, "field": %q}}, "right": %s}}, `, header, field, is)
}

// The chains of iptables-nft are told by their rules where iptables-save prints them.
func TestChainsThatAreSaved(t *testing.T) {
	tables := listed(t, false, chain{"ip", "filter", "forward", -150, restores})
	tables.Tables[0].Name, tables.Tables[0].Chains[0].Name = "mangle", "FORWARD"
	m := firewall.DefaultMarks()
	mangle := []live.Table{{Name: rules.Mangle}}
	for _, tt := range []struct {
		saved    live.Tables
		priority int
		want     int
	}{
		{live.Tables{Tables: mangle}, -150, 0},
		{live.Tables{Tables: mangle}, -3, 1},
		{live.Tables{Tables: mangle, Unreadable: []rules.Table{rules.Mangle}}, -150, 1},
		{live.Tables{}, -150, 1},
	} {
		tables.Tables[0].Chains[0].Priority = tt.priority
		if got := Chains(tables, xfrm.IPv4, tt.saved, m); len(got) != tt.want {
			t.Errorf("%+v, priority %d: %+v", tt.saved, tt.priority, got)
		}
	}
}

// Rules in tables that hold none of xfrmfw stand at their priority.
func TestRulesOfTheOtherVariant(t *testing.T) {
	s := sample.Snapshot(sample.Sun(), sample.Site{Reqid: 11, Local: "192.0.2.2", Remote: "203.0.113.1", Pairs: [][2]string{{"10.2.0.0/24", "10.1.0.0/24"}}})
	g := newGateway("plain", firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}}, xfrm.IPv4)
	for rule, want := range map[string]string{
		"*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j ACCEPT\nCOMMIT\n":                                   "",
		"*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j MARK --set-xmark 0x1/0xffffffff\nCOMMIT\n":          "",
		"*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j CONNMARK --restore-mark\nCOMMIT\n":                  "forged",
		"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j CONNMARK --restore-mark\nCOMMIT\n":               "",
		"*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n":                          "nat",
		"*security\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j MARK --set-xmark 0x20000000/0x20000000\nCOMMIT\n": "",
		"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j NFQUEUE --queue-num 1\nCOMMIT\n":                    "forged",
		"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j MARK --set-xmark 0x20000000/0x20000000\nCOMMIT\n":   "forged",
	} {
		have, err := live.Parse([]byte(rule))
		if err != nil {
			t.Fatal(err)
		}
		others := live.Apart(live.Others(xfrm.IPv4, have), "iptables-legacy")
		broken := ""
		for _, f := range Prove(g.firewall(xfrm.IPv4), &g.facts, g.in, others, nil) {
			broken = f.Property.Name
			if len(f.By) != 1 || !strings.HasPrefix(f.By[0], "iptables-legacy -t ") {
				t.Errorf("%s: %s fails by %v", rule, broken, f.By)
			}
		}
		if broken != want {
			t.Errorf("%s: %q fails, want %q", rule, broken, want)
		}
	}
}

// Without the table beside the rules, which is the first of all to exempt packets from NAT, each
// chain of NAT comes before them.
func TestChainsOfNATWithoutTheTable(t *testing.T) {
	s := sample.Snapshot(sample.Sun(), sample.Site{Reqid: 11, Local: "192.0.2.2", Remote: "203.0.113.1", Pairs: [][2]string{{"10.2.0.0/24", "10.1.0.0/24"}}})
	g := newGateway("plain", firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}}, xfrm.IPv4)
	others := Chains(listed(t, false, chain{"ip", "nat", "postrouting", 110, masks}), xfrm.IPv4, live.Tables{}, g.facts.Marks)
	if found := Prove(g.firewall(xfrm.IPv4), &g.facts, g.in, others, nil); len(found) == 0 || found[0].Property.Name != "nat" {
		t.Errorf("found %+v", found)
	}
}
