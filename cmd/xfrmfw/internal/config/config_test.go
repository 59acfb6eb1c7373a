package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xfrmfw/xfrmfw/firewall"
)

func TestParse(t *testing.T) {
	t.Parallel()
	with := func(change func(*firewall.Config)) firewall.Config {
		c := Default().Firewall
		change(&c)
		return c
	}
	tests := []struct {
		name, text string
		want       firewall.Config
	}{
		{"empty", "", Default().Firewall},
		{"comments only", "# nothing yet\n\n", Default().Firewall},
		{"document start", "---\nwan: [eth0]\n", with(func(c *firewall.Config) { c.WAN = []string{"eth0"} })},
		{"byte order mark", "\ufeffwan: [eth0]\n", with(func(c *firewall.Config) { c.WAN = []string{"eth0"} })},
		{"block list", "wan:\n  - eth0\n  - \"wan.100\"\n", with(func(c *firewall.Config) { c.WAN = []string{"eth0", "wan.100"} })},
		{"carriage returns", "wan: [eth0]\r\nverified: return\r\n", with(func(c *firewall.Config) { c.WAN, c.MarkOnly = []string{"eth0"}, true })},
		{"verified accept", "verified: accept\n", Default().Firewall},
		{"marks auto", "marks: auto\n", with(func(c *firewall.Config) { c.AutoMarks = true })},
		{"marks", "marks: {tag: 0x1, verified: 256}\n", with(func(c *firewall.Config) { c.Marks = firewall.Marks{Tag: 1, Verified: 256} })},
		{
			"tunnels", `
tunnels:
  - match: {reqid: 7}
    name: office.main_1
    remote: [10.1.0.0/24, 10.3.0.9, 2001:db8:1::/48]
    nat: keep
  - match:
      peer: 203.0.113.7
      remote: fd00::/8
    nat: exempt
`, with(func(c *firewall.Config) {
				c.Tunnels = []firewall.TunnelConfig{{
					Match: firewall.Match{Reqid: 7}, Name: "office.main_1", KeepNAT: true,
					Remote: []netip.Prefix{mustPrefix("10.1.0.0/24"), mustPrefix("10.3.0.9/32"), mustPrefix("2001:db8:1::/48")},
				}, {
					Match: firewall.Match{Peer: mustPrefix("203.0.113.7/32"), Remote: mustPrefix("fd00::/8")},
				}}
			}),
		},
		{
			"narrower first", "tunnels:\n- match: {peer: 10.1.0.0/16}\n- match: {peer: 10.0.0.0/8}\n",
			with(func(c *firewall.Config) {
				c.Tunnels = []firewall.TunnelConfig{
					{Match: firewall.Match{Peer: mustPrefix("10.1.0.0/16")}}, {Match: firewall.Match{Peer: mustPrefix("10.0.0.0/8")}},
				}
			}),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse([]byte(tt.text), "xfrmfw.yaml")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Config{Firewall: tt.want, Daemon: DefaultDaemon()}, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		// want has one line per mistake, without the file's name.
		want string
	}{
		{"unknown key", "wan: [eth0]\nverifed: accept\n", `2:1: unknown key "verifed": did you mean verified?`},
		{"port of IKE", "ike_ports: [0, 500, 70000, x]\n", "1:13: port 0: ports go from 1 to 65535\n1:16: port 500 is IKE's in any case: leave it out\n1:21: port 70000: ports go from 1 to 65535\n1:28: a port of ike_ports must be a whole number, not text: write it without quotes, such as 14500"},
		{"port of IKE twice", "ike_ports: [14500, 14500]\n", "1:20: port 14500 stands twice: keep one"},
		{"unknown key, far", "zone: 1\n", `1:1: unknown key "zone": use one of accept, behind, cross_check, daemon, engine, guard, ike_ports, lockdown, log, marks, tests, tunnels, verified, wan`},
		{"duplicate key", "wan: [eth0]\nmarks: auto\nwan: [eth1]\n", "3:1: wan is given twice, first on line 1: keep one"},
		{"guard off", "guard: {remember: 30}\n", "1:19: remember must be text, not a number: put it in quotes"},
		{"guard age", "guard: {remember: 30m}\n", "1:19: remember is \"30m\": write off, or days or hours such as 30d or 12h"},
		{"guard pair of two families", "guard:\n  pairs: [{local: 10.2.0.0/24, remote: fd00::/64}]\n", "2:11: local 10.2.0.0/24 and remote fd00::/64 are of two families: write a pair for each"},
		{"guard half a pair", "guard:\n  pairs: [{local: 10.2.0.0/24}]\n", "2:11: a pair needs both ends: write {local: 10.2.0.0/24, remote: 10.1.0.0/24}"},
		{"log rate", "log: {rate: 5}\n", "1:13: rate must be text, not a number: put it in quotes"},
		{"log nowhere", "log: syslog\n", "1:6: log is \"syslog\": write kernel or off"},
		{"a test without a verdict", "tests: [{dst: 10.2.0.1}]\n", "1:9: the test has no expect: write the verdict, such as expect: drop spoof"},
		{"a test with an unknown case", "tests: [{dst: 10.2.0.1, expect: drop spoofed}]\n", `1:33: expect is "spoofed": no case of that name goes with drop: write its number or word, such as drop spoof or accept verified`},
		{"a test of ports without a protocol", "tests: [{dport: 22, expect: drop}]\n", "1:9: ports need proto: tcp, udp or sctp"},
		{"a test of two families", "tests: [{src: 10.1.0.1, dst: \"fd00::1\", expect: drop}]\n", "1:9: src 10.1.0.1/32 and dst fd00::1/128 are of two families"},
		{"tests of one name", "tests: [{name: a, dst: 10.2.0.1, expect: drop}, {name: a, dst: 10.2.0.2, expect: drop}]\n", `1:49: two tests have the name "a": give each its own`},
		{"lockdown of nothing", "lockdown: {services: [tcp/22]}\n", "1:11: lockdown needs to know the outer interfaces: add wan: [eth0]"},
		{"service without a port", "tunnels:\n  - match: {reqid: 1}\n    in: [icmp/8]\n", "3:10: service \"icmp/8\": this protocol has no ports: leave them out"},
		{"service unknown", "tunnels:\n  - match: {reqid: 1}\n    in: [ssh]\n", "3:10: service \"ssh\": write a protocol, with a port or range if it has ports, such as tcp/22, udp/5000-5010 or icmp"},
		{"service twice", "tunnels:\n  - match: {reqid: 1}\n    out: [tcp/22, tcp/22]\n", "3:19: service \"tcp/22\" stands twice: keep one"},
		{"ports upside down", "tunnels:\n  - match: {reqid: 1}\n    out: [tcp/22-21]\n", "3:11: service \"tcp/22-21\": ports go from 1 to 65535, the lower one first"},
		{"cross-check", "cross_check: strict\n", "1:14: cross_check is \"strict\": write observe or enforce"},
		{"mss too small", "tunnels:\n  - match: {reqid: 1}\n    mss: 100\n", "3:10: mss is 100: write auto, off, or 536 to 65000"},
		{"no value", "wan:\n", "1:1: wan has no value: give it one, or take the line out"},
		{"two documents", "wan: [eth0]\n---\nwan: [eth1]\n", `2:1: a second document: write everything into one, without "---"`},
		{"directive", "%YAML 1.1\n---\nwan: [eth0]\n", "1:1: directives are not supported: take this line out"},
		{"list at the top", "- wan\n", "1:1: the configuration must be a mapping (key: value), not a list"},
		{"text at the top", "wan\n", "1:1: the configuration must be a mapping (key: value), not text"},
		{"open bracket", "wan: [eth0\n", "1:6: not YAML: sequence end token ']' not found"},
		{"tab", "tunnels:\n\t- match: {reqid: 1}\n", "2:1: not YAML: found character '\t' that cannot start any token"},
		{"control character", "wan: [eth0]\n# \x1b[31m\n", "2:3: control character 0x1b: take it out"},
		{"not UTF-8", "wan: [eth0]\n# M\xfcnchen\n", "2:4: not UTF-8: save the file in that encoding"},
		{"many brackets", "wan: " + strings.Repeat("[", 101), "1:106: more than 100 brackets are open: close them"},
		{"long line", "# " + strings.Repeat("- ", 10000), "1:16385: the line is longer than 16384 bytes: break it"},
		{"alias", "wan: &w [eth0]\n", "1:6: wan must be a list, not an anchor or alias, which are not supported: write wan: [eth0]"},
		{"tag", "verified: !!str accept\n", "1:11: verified is a YAML tag, which are not supported: write the value itself"},
		{"merge", "<<: {wan: [eth0]}\n", "1:1: a key must be a plain word: one of accept, behind, cross_check, daemon, engine, guard, ike_ports, lockdown, log, marks, tests, tunnels, verified, wan"},

		{"wan is text", "wan: eth0\n", "1:6: wan must be a list, not text: write wan: [eth0]"},
		{"wan is empty", "wan: []\n", "1:6: wan is an empty list: name something, or leave wan out"},
		{"wan holds a number", "wan: [7]\n", "1:7: an interface of wan must be text, not a number: put it in quotes"},
		{"wan holds nothing", "wan:\n  -\n", "2:5: an interface of wan has no value: write one, or take it out"},
		{"interface too long", "wan: [eth0, enp175s0f1np1v100]\n", `1:13: interface "enp175s0f1np1v100": longer than the 15 bytes of an interface name: write the name that "ip link" shows`},
		{"interface wildcard", "wan: [ppp+]\n", `1:7: interface "ppp+": wildcards are not supported: name each interface`},
		{"interface with a slash", "wan: [\"a/b\"]\n", `1:7: interface "a/b": not an interface name: write the name that "ip link" shows`},
		{"interface with a space", "wan: [\"eth0 -j ACCEPT\"]\n", `1:7: interface "eth0 -j ACCEPT": not an interface name: write the name that "ip link" shows`},
		{"interface with a newline", "wan: [\"a\\nb\"]\n", `1:7: interface "a\nb": not an interface name: write the name that "ip link" shows`},
		{"interface like an option", "wan: [-j]\n", `1:7: interface "-j": iptables would take it for an option: rename the interface`},
		{"interface empty", "wan: ['']\n", `1:7: interface "": the name is empty: write one, such as eth0`},
		{"interface loopback", "wan: [lo]\n", `1:7: interface "lo": the loopback interface leads to no peer: name the outer interface`},
		{"interface twice", "wan: [eth0, eth0]\n", `1:13: interface eth0 is named twice: keep one`},

		{"verified", "verified: drop\n", `1:11: verified is "drop": write accept or return`},
		{"verified true", "verified: true\n", `1:11: verified must be text, not true or false: put it in quotes`},
		{"verified block", "verified: |\n  accept\n", `1:11: verified must stand on its key's line: write it there, in quotes if need be`},
		{"marks text", "marks: free\n", `1:8: marks must be auto or a mapping, not "free": write auto, or {tag: 0x10000000, verified: 0x20000000}`},
		{"marks half", "marks:\n  tag: 0x1\n", `2:3: marks needs both bits: write auto, or {tag: 0x10000000, verified: 0x20000000}`},
		{"marks same", "marks: {tag: 0x4, verified: 4}\n", `1:8: tag and verified are the same bit 0x4: use two different ones`},
		{"mark of two bits", "marks: {tag: 0x3, verified: 0x4}\n", `1:14: tag is 0x3, which has 2 bits set: use exactly one, such as 0x10000000`},
		{"mark zero", "marks: {tag: 0, verified: 0x4}\n", `1:14: tag is 0x0, which has 0 bits set: use exactly one, such as 0x10000000`},
		{"mark too large", "marks: {tag: 0x100000000, verified: 0x4}\n", `1:14: tag is "0x100000000": write a decimal or 0x number of at most 32 bits, such as 0x10000000`},
		{"mark octal", "marks: {tag: 010, verified: 0x4}\n", `1:14: tag is "010": write a decimal or 0x number of at most 32 bits, such as 0x10000000`},
		{"mark negative", "marks: {tag: -1, verified: 0x4}\n", `1:14: tag is "-1": write a decimal or 0x number of at most 32 bits, such as 0x10000000`},
		{"mark text", "marks: {tag: \"0x1\", verified: 0x4}\n", `1:14: tag must be a whole number, not text: write it without quotes, such as 0x10000000`},
		{"marks unknown", "marks: {tags: 0x1, verified: 0x4}\n", `1:9: unknown key "tags": did you mean tag?`},

		{"tunnels is a mapping", "tunnels: {match: {reqid: 1}}\n", `1:10: tunnels must be a list, not a mapping: write a list of entries, each "- match: ..."`},
		{"tunnel is text", "tunnels: [office]\n", `1:11: an entry of tunnels must be a mapping (key: value), not text`},
		{"no match", "tunnels:\n  - name: office\n", `2:5: the entry has no match: say which tunnels it is for, such as match: {peer: 203.0.113.7}`},
		{"empty match", "tunnels:\n  - match: {}\n", `2:12: match is empty and would fit every tunnel: use one of connection, identity, peer, remote, reqid`},
		{"unknown match", "tunnels:\n  - match: {spi: 1}\n", `2:13: unknown key "spi": use one of connection, identity, peer, remote, reqid`},
		{"reqid zero", "tunnels: [{match: {reqid: 0}}]\n", `1:27: reqid 0 is that of every tunnel without one: match by peer or remote instead`},
		{"reqid with a fraction", "tunnels: [{match: {reqid: 1.5}}]\n", `1:27: reqid must be a whole number, not a number with a fraction: write it without quotes, such as 16385`},
		{"reqid text", "tunnels: [{match: {reqid: a}}]\n", `1:27: reqid must be a whole number, not text: write it without quotes, such as 16385`},
		{"empty connection", "tunnels: [{match: {connection: ''}}]\n", `1:32: connection "": write 1 to 250 bytes of visible characters, as xfrmfw status shows them`},
		{"identity with a control", "tunnels: [{match: {identity: \"a\\x01\"}}]\n", `1:30: identity "a\x01": write 1 to 250 bytes of visible characters, as xfrmfw status shows them`},
		{"replaced identity", "tunnels: [{match: {identity: \"a\ufffd\"}}]\n", "1:30: identity \"a\ufffd\": write 1 to 250 bytes of visible characters, as xfrmfw status shows them"},
		{"peer unmasked", "tunnels: [{match: {peer: 10.1.2.3/16}}]\n", `1:26: peer is 10.1.2.3/16, which has bits behind the prefix: write 10.1.0.0/16, or 10.1.2.3 for the one host`},
		{"peer mapped", "tunnels: [{match: {peer: \"::ffff:10.1.2.3\"}}]\n", `1:26: peer is the IPv4-mapped ::ffff:10.1.2.3: write the IPv4 address or prefix`},
		{"peer zone", "tunnels: [{match: {peer: \"fe80::1%eth0\"}}]\n", `1:26: peer is "fe80::1%eth0": write an address or prefix, such as 10.1.0.0/24 or 2001:db8::/32`},
		{"peer name", "tunnels: [{match: {peer: vpn.example.org}}]\n", `1:26: peer is "vpn.example.org": write an address or prefix, such as 10.1.0.0/24 or 2001:db8::/32`},
		{"name", "tunnels:\n  - match: {reqid: 1}\n    name: head office\n", `3:11: name "head office": write 1 to 32 of the characters A-Z a-z 0-9 _ . -`},
		{"remote text", "tunnels:\n  - match: {reqid: 1}\n    remote: 10.1.0.0/24\n", `3:13: remote must be a list, not text: write remote: [10.1.0.0/24]`},
		{"remote overlap", "tunnels:\n  - match: {reqid: 1}\n    remote: [10.1.0.0/24, 10.0.0.0/8]\n", `3:27: remote 10.0.0.0/8 overlaps 10.1.0.0/24 of the same list: keep the wider one`},
		{"remote bad", "tunnels:\n  - match: {reqid: 1}\n    remote:\n      - 10.1.0.0/33\n", `4:9: remote is "10.1.0.0/33": write an address or prefix, such as 10.1.0.0/24 or 2001:db8::/32`},
		{"remote ends in a colon", "tunnels:\n  - match: {reqid: 1}\n    remote:\n      - fd00::\n", `4:9: remote must be text, not a mapping: put text that holds a colon or bracket in quotes`},
		{"peer ends in a colon", "tunnels:\n  - match:\n      peer: fd00::\n", `3:13: not YAML: mapping value is not allowed in this context: put text that ends in a colon, such as fd00::, in quotes`},
		{"nat", "tunnels:\n  - match: {reqid: 1}\n    nat: yes\n", `3:10: nat is "yes": write exempt or keep`},
		{"same match", "tunnels:\n- match: {reqid: 1}\n- match: {reqid: 1}\n", `3:3: no tunnel gets here: the entry on line 2 matches all that this one does: join the two`},
		{"wider first", "tunnels:\n- match: {peer: 10.0.0.0/8}\n- match: {peer: 10.1.0.0/16, reqid: 1}\n", `3:3: no tunnel gets here: the entry on line 2 matches all that this one does: put the narrower one first`},

		{"several", "wan: eth0\nverified: maybe\nfoo: 1\n", "1:6: wan must be a list, not text: write wan: [eth0]\n" +
			"2:11: verified is \"maybe\": write accept or return\n3:1: unknown key \"foo\": use one of accept, behind, cross_check, daemon, engine, guard, ike_ports, lockdown, log, marks, tests, tunnels, verified, wan"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse([]byte(tt.text), "f.yaml")
			if err == nil {
				t.Fatal("no error")
			}
			var mistake *Error
			if !errors.As(err, &mistake) {
				t.Errorf("error %T is no *Error", err)
			}
			text := strings.ReplaceAll("\n"+err.Error(), "\nf.yaml:", "\n")[1:]
			if diff := cmp.Diff(tt.want, text); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(Config{}, got); diff != "" {
				t.Errorf("part of it was accepted: %s", diff)
			}
		})
	}
}

func TestParseManyMistakes(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte("wan: ["+strings.Repeat("ppp+, ", 15)+"]\n"), "f")
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxErrors+1 || lines[maxErrors] != "f: 5 more mistakes" {
		t.Errorf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestParseTooLarge(t *testing.T) {
	t.Parallel()
	_, err := Parse(make([]byte, maxSize+1), "f")
	if want := "f: the file is larger than 4 MiB"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "xfrmfw.yaml")
	got, err := Load(missing, false)
	if diff := cmp.Diff(Default(), got); err != nil || diff != "" {
		t.Errorf("a missing default file: %v, -want +got:\n%s", err, diff)
	}
	var mistake *Error
	if _, err = Load(missing, true); !errors.As(err, &mistake) || !strings.HasPrefix(err.Error(), missing+": no such") {
		t.Errorf("a missing named file: %v", err)
	}
	dir := t.TempDir()
	if _, err = Load(dir, true); err == nil || errors.As(err, &mistake) {
		t.Errorf("a directory: %v, want a failure that is no mistake in the file", err)
	}
	file := filepath.Join(dir, "xfrmfw.yaml")
	if err := os.WriteFile(file, []byte("verified: return\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(file, false); err != nil || !got.Firewall.MarkOnly {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("wan: [eth0]\nverified: return\nmarks: {tag: 0x1, verified: 0x2}\n")
	f.Add("tunnels:\n  - match: {connection: a, reqid: 1, peer: 10.0.0.0/8, remote: fd00::/8, identity: \"x\"}\n" +
		"    name: n\n    remote: [10.0.0.0/8]\n    nat: keep\n")
	f.Add("marks: auto\nlog: kernel\n---\n? a\n: &b !!c *b\n")
	f.Fuzz(func(t *testing.T, text string) {
		config, err := Parse([]byte(text), "f")
		c := config.Firewall
		if err != nil {
			var mistake *Error
			if !errors.As(err, &mistake) {
				t.Fatalf("%T is no *Error", err)
			}
			return
		}
		// An accepted configuration keeps the properties that the compiler relies on.
		if m := c.Marks; m.Tag&(m.Tag-1) != 0 || m.Verified&(m.Verified-1) != 0 || m.Tag == m.Verified || m.Tag == 0 || m.Verified == 0 {
			t.Errorf("marks %+v", m)
		}
		for _, name := range c.WAN {
			if interfaceProblem(name) != "" {
				t.Errorf("interface %q", name)
			}
		}
		for _, tc := range c.Tunnels {
			if tc.Match == (firewall.Match{}) || tc.Remote != nil && len(tc.Remote) == 0 {
				t.Errorf("tunnel %+v", tc)
			}
			for _, p := range append(tc.Remote, tc.Match.Peer, tc.Match.Remote) {
				if p.IsValid() && p != p.Masked() {
					t.Errorf("prefix %s", p)
				}
			}
		}
	})
}

func BenchmarkParse10000(b *testing.B) {
	var text strings.Builder
	text.WriteString("tunnels:\n")
	for i := range 10000 {
		fmt.Fprintf(&text, "  - match: {peer: 10.%d.%d.0/24}\n    name: site-%d\n    remote: [10.%d.%d.0/24]\n", i/256, i%256, i, i/256, i%256)
	}
	for b.Loop() {
		if _, err := Parse([]byte(text.String()), "f"); err != nil {
			b.Fatal(err)
		}
	}
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
