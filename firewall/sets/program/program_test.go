package program

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestTablesOfRandomGatewaysAreValid(t *testing.T) {
	chains, most := 0, 0
	for seed := range uint64(120) {
		_, in := fake.Variety(seed)
		f := decide.Facts(in)
		table := Table(&f, Options{})
		if err := table.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(table, Table(&f, Options{})); diff != "" {
			t.Fatalf("seed %d: not the same a second time:\n%s", seed, diff)
		}
		rules := 0
		for _, c := range table.Chains {
			rules += len(c.Rules)
		}
		chains, most = max(chains, len(table.Chains)), max(most, rules)
	}
	t.Logf("at most %d chains, %d rules", chains, most)
}

// sites are the facts about n tunnels between networks of one length.
func sites(n int) firewall.Facts {
	f := firewall.Facts{Marks: firewall.DefaultMarks()}
	local := netip.MustParsePrefix("192.168.2.0/24")
	for i := range n {
		remote := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		id, reqid := fmt.Sprintf("t%010x", i), uint32(i+1)
		f.Claims = append(f.Claims, firewall.Claim{
			Tunnel: id, Pair: xfrm.Pair{Local: local, Remote: remote}, In: firewall.SAMatch{Reqid: reqid}, Out: firewall.SAMatch{Reqid: reqid}, Live: true,
		})
		f.Known = append(f.Known, firewall.KnownReqid{Reqid: reqid})
		f.Guards = append(f.Guards, firewall.GuardFacts{Guard: guard.Guard{Local: local, Remote: remote, Tunnel: id}})
	}
	return f
}

func TestTunnelIsSixElements(t *testing.T) {
	few, more := sites(100), sites(101)
	have, want := Table(&few, Options{}), Table(&more, Options{})
	if diff := cmp.Diff(have.Chains, want.Chains); diff != "" {
		t.Errorf("rules changed:\n%s", diff)
	}
	change := sets.Diff(have, want)
	if len(change.Switch) != 0 || len(change.Ops()) != 6 {
		t.Errorf("got\n%s", change)
	}
	down := sets.Diff(want, have)
	if len(down.Switch) != 0 || len(down.Ops()) != 6 {
		t.Errorf("got\n%s", down)
	}
	// The guard comes before the claim and goes after it.
	if s := change.Grow[0].String(); !strings.HasPrefix(s, "add element g0_4_24_24") {
		t.Errorf("first %s", s)
	}
	if s := down.Grow[0].String(); !strings.HasPrefix(s, "delete element c4_24_24") {
		t.Errorf("first %s", s)
	}
	rules := 0
	for _, c := range have.Chains {
		rules += len(c.Rules)
	}
	t.Logf("%d rules in %d chains, %d sets", rules, len(have.Chains), len(have.Sets))
	if rules > 250 {
		t.Errorf("%d rules", rules)
	}
}

// A packet of no guarded prefix is looked up in no set, because a look-up costs it more than
// all other rules.
func TestOthersAreLookedUpNowhere(t *testing.T) {
	f := sites(100)
	f.Inside = []firewall.Network{{Prefix: netip.MustParsePrefix("192.168.2.0/24"), Device: "lan0"}}
	lookups := 0
	for _, c := range Table(&f, Options{}).Chains {
		for _, r := range c.Rules {
			gate := false
			for _, term := range r.Terms {
				switch term := term.(type) {
				case sets.Match:
					gate = gate || term.Field.Clear > 0
				case sets.In:
					lookups++
					if c.Base != (sets.Base{}) && !gate {
						t.Errorf("%s: a look-up in %s before the packet is known to be of a guarded prefix", c.Name, term.Set)
					}
				}
			}
		}
	}
	if lookups == 0 {
		t.Error("the table looks nothing up")
	}
}

func TestRanks(t *testing.T) {
	guard := func(remote string, exception bool) firewall.GuardFacts {
		return firewall.GuardFacts{Guard: guard.Guard{Local: netip.MustParsePrefix("10.2.0.0/16"), Remote: netip.MustParsePrefix(remote), Exception: exception}}
	}
	got := ranks([]firewall.GuardFacts{
		guard("10.1.1.0/24", false), // before the exception
		guard("10.1.0.0/16", true),  // behind one guard that it overlaps
		guard("10.0.0.0/8", false),  // behind that exception
		guard("10.9.0.0/16", true),  // behind a guard of rank 1
		guard("10.9.0.0/24", false),
		guard("172.16.0.0/12", false), // overlaps nothing
		guard("172.17.0.0/16", true),
	})
	if diff := cmp.Diff([]int{0, 1, 1, 2, 2, 0, 1}, got); diff != "" {
		t.Error(diff)
	}
}

// An ICMP error comes from any address, so an exception for a local network holds before a
// guard of another one where it comes before it alone.
func TestErrorsKeepTheOrderOfOtherNetworks(t *testing.T) {
	remote := netip.MustParsePrefix("10.1.0.0/24")
	pair := firewall.GuardFacts{Guard: guard.Guard{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: remote}}
	bypass := firewall.GuardFacts{Guard: guard.Guard{Local: netip.MustParsePrefix("10.3.0.0/24"), Remote: remote, Exception: true, Dirs: 1 << xfrm.Out}}
	ends := firewall.Ends{Src: netip.MustParseAddr("10.3.0.9"), Dst: netip.MustParseAddr("10.1.0.10")}
	p := firewall.Passage{Way: firewall.Through, In: "eth1", Out: "eth0", Proto: xfrm.ICMP, ICMPType: 3, Received: ends, AfterDNAT: ends, Sent: ends}
	for name, guards := range map[string][]firewall.GuardFacts{"the pair first": {pair, bypass}, "the exception first": {bypass, pair}} {
		f := firewall.Facts{Marks: firewall.DefaultMarks(), Guards: guards}
		want := firewall.Judge(&f, p)
		got, _, trail := newEvaluator(Table(&f, Options{})).walk(&f, p)
		if (want.Case == firewall.Case8c) != (name == "the pair first") || (want.Action == firewall.Discard) != (got == dropped) {
			t.Errorf("%s: %v, Judge %v %v\n%s", name, got, want.Action, want.Case, strings.Join(trail, "\n"))
		}
	}
}

func TestPeersCanNotInflateTheRules(t *testing.T) {
	f := firewall.Facts{Marks: firewall.DefaultMarks()}
	for remote := 8; remote <= 32; remote++ {
		for local := 8; local <= 32; local++ {
			f.Claims = append(f.Claims, firewall.Claim{
				In:   firewall.SAMatch{Reqid: uint32(remote<<8 | local)},
				Pair: xfrm.Pair{Remote: netip.MustParsePrefix(fmt.Sprintf("10.0.0.0/%d", remote)), Local: netip.MustParsePrefix(fmt.Sprintf("172.0.0.0/%d", local))},
			})
		}
	}
	table := Table(&f, Options{})
	if err := table.Validate(); err != nil {
		t.Fatal(err)
	}
	hashed, elements := 0, 0
	for _, s := range table.Sets {
		if strings.HasPrefix(s.Name, "c4_") {
			elements += len(s.Elements)
			if !s.Interval {
				hashed++
			}
		}
	}
	if hashed != maxLengths || elements != len(f.Claims) {
		t.Errorf("%d hash sets, %d elements of %d", hashed, elements, len(f.Claims))
	}
}

func TestCover(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{nil, nil},
		{[]string{"10.1.0.0/24"}, []string{"10.1.0.0/24"}},
		{[]string{"10.1.0.0/24", "10.1.0.0/24", "10.1.0.0/16"}, []string{"10.1.0.0/16"}},
		{[]string{"10.1.0.0/24", "10.1.1.0/24", "172.16.0.0/24", "192.168.0.0/24", "192.0.2.1/32"}, []string{"10.1.0.0/16", "172.16.0.0/24", "192.0.0.0/8"}},
		{[]string{"0.0.0.0/0", "10.0.0.0/8"}, []string{"0.0.0.0/0"}},
	} {
		var pairs []pair
		for _, p := range c.in {
			pairs = append(pairs, pair{remote: netip.MustParsePrefix(p)})
		}
		var got []string
		for _, p := range cover(pairs) {
			got = append(got, p.String())
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v:\n%s", c.in, diff)
		}
	}
}
