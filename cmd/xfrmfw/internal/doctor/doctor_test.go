package doctor

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/firewall/limit"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/test/manual"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// TestManual is that the manual explains each kind of finding.
func TestManual(t *testing.T) {
	page := manual.Page(t, "xfrmfw-doctor.8")
	for _, c := range checks() {
		if !regexp.MustCompile("(?m)^- .*`" + c.name + "`").MatchString(page) {
			t.Errorf("xfrmfw-doctor(8) lacks %s", c.name)
		}
	}
}

// gateway is a host with a tunnel that is up and with nothing amiss; change
// alters the kernel's side of it.
func gateway(change func(*xfrm.Snapshot)) Input {
	site := sample.Moon()
	site.Reqid = 11
	s := sample.Snapshot(xfrm.Host{
		Links:     []xfrm.Link{{Index: 1, Name: "lo", Up: true}, {Index: 2, Name: "wan0", Up: true}, {Index: 3, Name: "lan0", Up: true}},
		Addresses: []xfrm.Address{{Link: 2, Prefix: netip.MustParsePrefix("192.0.2.2/24")}, {Link: 3, Prefix: netip.MustParsePrefix("10.2.0.1/24")}},
		Routes: []xfrm.Route{
			{Dst: netip.MustParsePrefix("192.0.2.0/24"), Link: 2, Connected: true}, {Dst: netip.MustParsePrefix("10.2.0.0/24"), Link: 3, Connected: true},
		},
	}, site)
	s.Time = 1_800_000_000
	if change != nil {
		change(&s)
	}
	c := firewall.Config{Marks: firewall.DefaultMarks()}
	set := xfrm.Tunnels(s)
	return Input{
		Snapshot: s, Set: set, Config: c, Variant: "nft",
		Result: compile.Compile(firewall.Input{Set: set, Host: s.Host, Config: c}),
		Sysctl: Sysctl{Forward4: true, Forward6: true},
	}
}

// TestFindings: each is there with its cause and not without it. Findings that namespaces
// can show are in cmd/xfrmfw/testdata/script, and those that need ESP also in
// test/operator.
func TestFindings(t *testing.T) {
	if found := Examine(gateway(nil)); len(found) != 0 {
		t.Fatalf("a host in good health has %+v", found)
	}
	tests := []struct {
		name  string
		in    Input
		check string
		seen  string
		mend  string
	}{
		{"offload", gateway(func(s *xfrm.Snapshot) { s.Host.ESP4Offload = true }), "offload", "esp4_offload is loaded", "set_mark_in = 0x10000000/0x10000000"},
		{"offload to the card", gateway(func(s *xfrm.Snapshot) { s.States[0].Offload.Ifindex = 2 }), "offload", "offloaded to the network card", "set_mark_in"},
		{"a state's mark over our bits", gateway(func(s *xfrm.Snapshot) { s.States[0].Mark = xfrm.Mark{Value: 42, Mask: ^uint32(0)} }), "offload", "covers our bits", "set_mark_in"},
		{"states without policies", gateway(func(s *xfrm.Snapshot) { s.Policies = nil }), "states-alone", "^2 SAs without policies: state 192.0.2.1 -> 192.0.2.2 esp spi 0xc0000b00", "install_policy"},
		{"no inbound state", gateway(func(s *xfrm.Snapshot) { s.States = s.States[1:] }), "policies-alone", "one direction only", "initiate"},
		{"no state", gateway(func(s *xfrm.Snapshot) { s.States = nil }), "policies-alone", "^policies without SAs", "initiate"},
		{"an attribute of a newer kernel", gateway(func(s *xfrm.Snapshot) { s.Skip("attribute 42 of states", "it is of a newer kernel") }), "ignored", "^the kernel says attribute 42 of states: it is", "newer release"},
		{"a limit", with(func(in *Input) {
			in.Excess = []limit.Excess{{Object: "pairs of peer 192.0.2.1", Count: 9000, Most: 8192, Effect: "packets of the newest are dropped", Remedy: "cap them"}}
		}), "limits", "^pairs of peer 192.0.2.1: there are 9000, and room for 8192$", "# cap them"},
		{"modules", with(func(in *Input) { in.Modules = []string{"xt_policy", "nft_compat"} }), "modules", "the kernel has no xt_policy, nft_compat", "install the modules"},
		{"a counter that nobody knows", with(func(in *Input) {
			in.Counters = [2]map[string]uint64{{"XfrmInNew": 1, "XfrmInError": 5}, {"XfrmInNew": 3, "XfrmInError": 5}}
		}), "counters", "^XfrmInNew grew by 2 within", "ip -s xfrm state"},
		{"drops of the table", with(func(in *Input) {
			in.TableDrops = [2]map[rules.Purpose]uint64{{rules.PurposeSpoof: 5, rules.PurposeLeak: 7}, {rules.PurposeSpoof: 8, rules.PurposeLeak: 7}}
		}), "dropped", "^xfrmfw dropped 3 packets in clear from a tunnel's remote network .case 6. within", "xfrmfw forget REMOTE"},
		{"SELinux denies the hook", with(func(in *Input) {
			in.Denials = []Denial{{Module: "SELinux", Subject: "ipsec_t", Operation: "connectto", Object: "/run/xfrmfw/x.sock", Command: "xfrmfw"}}
		}), "denied", "^SELinux denied ipsec_t in the last 24 hours: connectto of /run/xfrmfw/x.sock by xfrmfw$", "semodule -X 200 -i /usr/share/selinux/packages/xfrmfw.cil"},
		{"AppArmor denies the hook", with(func(in *Input) {
			in.Denials = []Denial{{Module: "AppArmor", Subject: "/usr/lib/ipsec/charon", Operation: "exec", Object: "/usr/libexec/xfrmfw/updown"}}
		}), "denied", "^AppArmor denied /usr/lib/ipsec/charon in the last 24 hours: exec of /usr/libexec/xfrmfw/updown$", "apparmor_parser -r /etc/apparmor.d/usr.lib.ipsec.charon"},
		{"a saved rule set", with(func(in *Input) { in.Saved = []Saved{{File: "/etc/nftables.conf", Chains: true, Table: true}} }),
			"saved", "^/etc/nftables.conf holds chains of xfrmfw", "nft -c -f /etc/nftables.conf"},
		{"a saved table", with(func(in *Input) { in.Saved = []Saved{{File: "/etc/nftables.d/a;b.nft", Table: true}} }),
			"saved", "^/etc/nftables.d/a;b.nft holds xfrmfw's table", "nft -c -f FILE "},
		{"a flowtable", with(func(in *Input) {
			in.NFT = foreign.Ruleset{Tables: []foreign.Table{{Family: "inet", Name: "fw", Flowtables: []foreign.Flowtable{{Name: "ft", Devices: []string{"wan0", "lan0"}}}}}}
		}), "flowtable", "^nftables table inet fw has flowtable ft on wan0", "rt ipsec missing"},
		{"segment routing", with(func(in *Input) { in.Sysctl.Links = map[string]LinkSysctl{"wan0": {Segments: true}} }),
			"source-routing", "^net.ipv6.conf.all.seg6_enabled is set, and on wan0 too$", "seg6_enabled=0"},
		{"bridged frames", bridge(func(s *Sysctl) { s.BridgeCall4 = true }), "bridge", "^iptables judges the frames of bridge br0 .bridge-nf-call-iptables.$", "sysctl -w net.bridge.bridge-nf-call-iptables=0"},
		{"frames of one bridge", bridge(func(s *Sysctl) { s.Links = map[string]LinkSysctl{"br0": {BridgeCall4: true}} }),
			"bridge", "^iptables judges the frames of bridge br0 ", "ip link set br0 type bridge nf_call_iptables 0"},
		{"libreswan's words", with(func(in *Input) {
			*in = gateway(func(s *xfrm.Snapshot) { s.States = nil })
			in.IKE = "pluto"
		}), "policies-alone", "^policies without SAs", "ipsec auto --up NAME"},
		{"an unreadable table", with(func(in *Input) {
			in.Live = map[xfrm.Family]live.Tables{xfrm.IPv4: {Unreadable: []rules.Table{rules.Filter}}}
		}), "unreadable", "ipv4 table filter holds rules of nftables, or of a newer iptables,", "nft list table ip filter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := Examine(tt.in)
			if !slices.ContainsFunc(found, func(f Finding) bool {
				return f.Check == tt.check && regexp.MustCompile(tt.seen).MatchString(f.Seen) && strings.Contains(strings.Join(f.Mend, "\n"), tt.mend)
			}) {
				t.Errorf("no %s in %+v", tt.check, found)
			}
		})
	}
}

// TestIgnoredYetGuarded: a pair without a rule that verifies it may have a guard, and the
// finding about it does not deny the guard.
func TestIgnoredYetGuarded(t *testing.T) {
	in := gateway(func(s *xfrm.Snapshot) {
		for i := range s.Policies {
			sel := &s.Policies[i].Selector
			sel.Proto, sel.SPort, sel.DPort = xfrm.GRE, xfrm.PortMatch{}, xfrm.PortMatch{Port: 7, Mask: 0xffff}
			if s.Policies[i].Dir == xfrm.Out {
				sel.SPort, sel.DPort = sel.DPort, sel.SPort
			}
		}
	})
	if len(in.Result.InForce()) == 0 {
		t.Fatal("no guard stands")
	}
	found := Examine(in)
	at := slices.IndexFunc(found, func(f Finding) bool { return f.Check == "ignored" })
	if at < 0 {
		t.Fatalf("nothing is ignored: %+v", found)
	}
	if b := found[at].Breaks; strings.Contains(b, "neither verified nor guarded") || !strings.Contains(b, "guards that status lists hold") {
		t.Errorf("a guard stands, and doctor says: %s", b)
	}
}

// bridge is a gateway with a bridge of two ports.
func bridge(change func(*Sysctl)) Input {
	in := gateway(func(s *xfrm.Snapshot) {
		s.Host.Links = append(s.Host.Links, xfrm.Link{Index: 4, Name: "br0", Kind: "bridge"},
			xfrm.Link{Index: 5, Name: "p1", Master: 4}, xfrm.Link{Index: 6, Name: "p2", Master: 4})
	})
	change(&in.Sysctl)
	return in
}

// TestBridge: a bridge is no finding without frames that the rules of a guarded family
// judge, and with one port it bridges none.
func TestBridge(t *testing.T) {
	onePort := bridge(func(s *Sysctl) { s.BridgeCall4 = true })
	onePort.Snapshot.Host.Links = onePort.Snapshot.Host.Links[:5]
	unguarded := bridge(func(s *Sysctl) { s.BridgeCall4 = true })
	unguarded.Result = compile.Result{}
	for name, in := range map[string]Input{
		"off": bridge(func(*Sysctl) {}), "another family": bridge(func(s *Sysctl) { s.BridgeCall6 = true }), "one port": onePort, "no guard": unguarded,
	} {
		if found := Examine(in); slices.ContainsFunc(found, func(f Finding) bool { return f.Check == "bridge" }) {
			t.Errorf("%s: %+v", name, found)
		}
	}
	if found := Examine(bridge(func(s *Sysctl) { s.BridgeCall4 = true })); Grave(found) {
		t.Errorf("grave, although Docker's hosts have it: %+v", found)
	}
}

// TestVTI: routes decide on the traffic of a VTI's policies, and none of its networks
// lacks a family; a strict filter on it is amiss where no route of IPv4 leads into it, which is named besides.
func TestVTI(t *testing.T) {
	vti := func(routes ...string) Input {
		in := gateway(func(s *xfrm.Snapshot) {
			everything := netip.MustParsePrefix("0.0.0.0/0")
			key := xfrm.Mark{Value: 42, Mask: ^uint32(0)}
			for i := range s.Policies {
				s.Policies[i].Selector.Src, s.Policies[i].Selector.Dst, s.Policies[i].Mark = everything, everything, key
			}
			for i := range s.States {
				s.States[i].Mark = key
			}
			s.Host.Links = append(s.Host.Links, xfrm.Link{Index: 4, Name: "vti0", Kind: "vti", Up: true, IKey: 42, OKey: 42})
			s.Host.Addresses = append(s.Host.Addresses, xfrm.Address{Link: 1, Prefix: netip.MustParsePrefix("127.0.0.1/8")},
				xfrm.Address{Link: 1, Prefix: netip.MustParsePrefix("::1/128")}, xfrm.Address{Link: 3, Prefix: netip.MustParsePrefix("fd00:2::1/64")})
			for _, r := range routes {
				s.Host.Routes = append(s.Host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(r), Link: 4})
			}
		})
		in.Sysctl.Links = map[string]LinkSysctl{"vti0": {ReversePath: 1}}
		return in
	}
	if found := Examine(vti("10.1.0.0/24")); len(found) != 0 {
		t.Errorf("with a route: %+v", found)
	}
	in := vti("10.1.0.0/24")
	in.Snapshot.Host.Routes[len(in.Snapshot.Host.Routes)-1].Table = 100
	if found := Examine(in); len(found) != 0 {
		t.Errorf("with a route in a table of its own: %+v", found)
	}
	in.Snapshot.Host.Rules = []xfrm.RoutingRule{{Priority: 100, Mark: xfrm.Mark{Value: 1, Mask: 1}}}
	if found := Examine(in); len(found) != 1 || found[0].Check != "rp-filter" {
		t.Errorf("with a route that a mark leads to: %+v", found)
	}
	unrouted := func(in Input) []Finding {
		t.Helper()
		named := func(f Finding) bool {
			return f.Check == "ignored" && strings.Contains(f.Seen, "no route leads into vti0")
		}
		found := Examine(in)
		if !slices.ContainsFunc(found, named) {
			t.Errorf("no finding names the device without a route: %+v", found)
		}
		return slices.DeleteFunc(found, named)
	}
	found := unrouted(vti("fd00:1::/64", "ff00::/8", "fe80::/64"))
	if len(found) != 1 || found[0].Check != "rp-filter" || !strings.Contains(found[0].Seen, "strict (1) on vti0") {
		t.Errorf("without a route of IPv4: %+v", found)
	}
	// Loose does as strict on a device without an address, and lets them pass on one that has an address.
	for _, tt := range []struct {
		mode     int
		numbered bool
		want     string
	}{{1, false, "vti0.rp_filter=0"}, {2, false, "vti0.rp_filter=0"}, {1, true, "vti0.rp_filter=2"}, {2, true, ""}, {0, false, ""}} {
		in := vti()
		in.Sysctl.Links["vti0"] = LinkSysctl{ReversePath: tt.mode}
		if tt.numbered {
			in.Snapshot.Host.Addresses = append(in.Snapshot.Host.Addresses, xfrm.Address{Link: 4, Prefix: netip.MustParsePrefix("10.255.0.1/32")})
		}
		found := unrouted(in)
		if tt.want == "" && len(found) == 0 {
			continue
		}
		if tt.want == "" || len(found) != 1 || !strings.Contains(found[0].Mend[0], tt.want) {
			t.Errorf("%+v: %+v", tt, found)
		}
	}
}

func with(change func(*Input)) Input {
	in := gateway(nil)
	change(&in)
	return in
}

// TestEachIsTried: a script in namespaces or a network with real IPsec has each kind of
// finding appear, and go again by the remedy that doctor names.
func TestEachIsTried(t *testing.T) {
	var all []byte
	for _, pattern := range []string{"../../testdata/script/doctor_*.txtar", "../../../../test/coexist/*_test.go", "../../../../test/faults/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 3 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, text...)
		}
	}
	for _, c := range checks() {
		if !regexp.MustCompile(`\[` + c.name + `\\?\]|(finds|sees)\(.*"` + c.name + `"`).Match(all) {
			t.Errorf("no test has %s appear", c.name)
		}
	}
}

// TestMeanings: each counter has a meaning and a likely cause.
func TestMeanings(t *testing.T) {
	for name, m := range meanings() {
		if !strings.HasPrefix(name, "Xfrm") || m.counts == "" || m.cause == "" {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// TestCommandsAreSafe: a name that could be a command of its own is not written
// into one.
func TestCommandsAreSafe(t *testing.T) {
	in := gateway(func(s *xfrm.Snapshot) { s.Host.Links[1].Name = "a;$(id)" })
	in.Sysctl.Links = map[string]LinkSysctl{"a;$(id)": {NoXfrm: true, NoPolicy: true}}
	seen := false
	for _, f := range Examine(in) {
		for _, line := range f.Mend {
			seen = seen || strings.Contains(line, "NAME")
			if strings.Contains(line, "$(id)") {
				t.Errorf("%s: %s", f.Check, line)
			}
		}
	}
	if !seen {
		t.Error("the interface is in no finding, so this shows nothing")
	}
}

// TestMarkClash: a routing rule that matches by our bits is an error, one that compares
// them with 0 is a note, and one with a mask of its own is neither.
func TestMarkClash(t *testing.T) {
	for _, tt := range []struct {
		mark xfrm.Mark
		want Severity
		mend string
	}{
		{xfrm.Mark{Value: 1 << 28, Mask: 1 << 28}, Error, "marks: auto"},
		{xfrm.Mark{Value: 0xca6c, Mask: ^uint32(0)}, Note, "fwmark 0xca6c/0xcfffffff"},
		{xfrm.Mark{Value: 1, Mask: 0xff}, "", ""},
	} {
		in := Input{Config: firewall.Config{Marks: firewall.DefaultMarks()}}
		in.Snapshot.Host.Rules = []xfrm.RoutingRule{{Priority: 100, Mark: tt.mark}}
		var got Severity
		found := markClash(in)
		for _, f := range found {
			got = f.Severity
			if !strings.Contains(strings.Join(f.Mend, " "), tt.mend) {
				t.Errorf("%s: %q, want %q", tt.mark, f.Mend, tt.mend)
			}
		}
		if got != tt.want || len(found) > 1 {
			t.Errorf("%s: %+v, want %q", tt.mark, found, tt.want)
		}
	}
}

// A module that rules can do without is no error, and one more that they can't is.
func TestDispensableModules(t *testing.T) {
	for _, tt := range []struct {
		modules []string
		want    Severity
	}{
		{[]string{"xt_conntrack", "xt_addrtype", "ipt_rpfilter", "ip6t_rpfilter", "iptable_nat"}, Warning},
		{[]string{"xt_conntrack", "xt_policy"}, Error},
		{[]string{"iptable_mangle"}, Error},
	} {
		if found := missingModules(Input{Modules: tt.modules}); len(found) != 1 || found[0].Severity != tt.want {
			t.Errorf("%q: %+v, want %s", tt.modules, found, tt.want)
		}
	}
}
