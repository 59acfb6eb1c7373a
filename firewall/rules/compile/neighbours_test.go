package compile

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// Sites that are numbered one after the other have their guards in few rules. The rules
// cover the networks of the sites, and not those between.
func TestGuardsOfNeighbours(t *testing.T) {
	const missing = 77
	const apart = 200 // has another local selector
	host := sunHost()
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.3.0.0/24"), Link: 3})
	var row []sample.Site
	for i := range 256 {
		local := sunLAN
		if i == apart {
			local = "10.3.0.0/24"
		}
		if i != missing {
			row = append(row, peer(i+1, fmt.Sprintf("203.0.113.%d", i), [2]string{local, fmt.Sprintf("10.100.%d.0/24", i)}))
		}
	}
	up := snapshotOf(host, row...)
	for name, w := range map[string]world{
		"up": compileWorld(t, up, firewall.Config{}), "remembered": compileInput(t, snapshotOf(host), firewall.Input{Guards: remember(nil, up, 1000)}),
	} {
		guards := 0
		for _, c := range w.result.Rulesets[0].Chains {
			for _, r := range c.Rules.All() {
				switch r.Purpose {
				case rules.PurposeSpoofGuard, rules.PurposeInjectGuard, rules.PurposeLeakGuard:
					guards++
				}
			}
		}
		if guards > 256 {
			t.Errorf("%s: %d rules guard 255 neighbours", name, guards)
		}
		for i := range 256 {
			for _, host := range []int{0, 255} {
				far, near := fmt.Sprintf("10.100.%d.%d", i, host), "10.2.0.9"
				if i == apart {
					near = "10.3.0.9"
				}
				want := i != missing
				if got := w.arrive(clear4(far, near), nil); got.met(rules.PurposeSpoof) != want {
					t.Errorf("%s: from %s: stopped %v, want %v", name, far, !want, want)
				}
				about := trace.Packet{Src: addr("198.51.100.7"), Dst: addr(near), In: "eth0", Proto: xfrm.ICMP, ICMPType: 3}
				for _, ends := range [][2]netip.Addr{{addr(far), addr(near)}, {addr(near), addr(far)}} {
					about.Ct = trace.Conntrack{State: rules.CtRelated, OrigSrc: ends[0], OrigDst: ends[1], ReplSrc: ends[1], ReplDst: ends[0]}
					if got := w.arrive(about, nil); got.met(rules.PurposeSpoof) != want {
						t.Errorf("%s: an error about %s and %s: stopped %v, want %v", name, ends[0], ends[1], !want, want)
					}
				}
				leak := trace.Packet{Src: addr(near), Dst: addr(far), In: "eth1", Out: "eth0", Proto: xfrm.UDP}
				if got := w.forward(leak); got.met(rules.PurposeReject) != want {
					t.Errorf("%s: to %s: refused %v, want %v", name, far, !want, want)
				}
				if got := w.last(leak); got.met(rules.PurposeLeak) != want {
					t.Errorf("%s: to %s: stopped %v, want %v", name, far, !want, want)
				}
				quoting := trace.Packet{Src: addr(sunWAN), Dst: addr(far), Out: "eth0", SrcLocal: true, Proto: xfrm.ICMP, ICMPType: 11}
				if got := w.last(quoting); got.met(rules.PurposeLeak) != want {
					t.Errorf("%s: an error to %s: stopped %v, want %v", name, far, !want, want)
				}
				leak.In, leak.FailsRPFilter = "eth0", true
				if got := w.arrive(leak, nil); got.met(rules.PurposeInject) != want {
					t.Errorf("%s: a stranger's to %s: stopped %v, want %v", name, far, !want, want)
				}
			}
		}
	}
}

// The owner of a source has a rule of its own before the one for packets out of any other
// tunnel, which neighbours have in common.
func TestOwnersThatAreNeighbours(t *testing.T) {
	var sites []sample.Site
	for i := range 64 {
		sites = append(sites, peer(i+1, fmt.Sprintf("203.0.113.%d", i), [2]string{sunLAN, fmt.Sprintf("10.100.%d.0/24", i)},
			[2]string{"10.3.0.0/24", fmt.Sprintf("10.101.%d.0/24", i)}))
	}
	sites = append(sites, peer(100, moonWAN, [2]string{sunLAN, "10.96.0.0/12"}), peer(200, "203.0.113.200", [2]string{sunLAN, moonLAN}))
	w := compileWorld(t, snapshotOf(sunHost(), sites...), firewall.Config{})
	foreign := 0
	for _, c := range w.result.Rulesets[0].Chains {
		for _, r := range c.Rules.All() {
			if r.Target.Chain == layout.ChainForeign {
				foreign++
			}
		}
	}
	if foreign > 9 {
		t.Errorf("%d rules take what owners did not send", foreign)
	}
	// An error about a flow of the tunnel that it comes out of, from a router.
	about := func(reqid uint32, far string, router string) trace.Packet {
		p := tagged(from(reqid, router, "10.2.0.9"))
		p.Proto, p.ICMPType = xfrm.ICMP, 3
		p.Ct = trace.Conntrack{State: rules.CtRelated, OrigSrc: addr("10.2.0.9"), OrigDst: addr(far), ReplSrc: addr(far), ReplDst: addr("10.2.0.9")}
		return p
	}
	for i := range 64 {
		far := fmt.Sprintf("10.100.%d.9", i)
		for _, tc := range []struct {
			router string
			want   bool
		}{
			{"172.16.9.9", true},
			{fmt.Sprintf("10.101.%d.1", i), true}, // its own, of the other pair
			{fmt.Sprintf("10.101.%d.1", (i+1)%64), false},
			{fmt.Sprintf("10.100.%d.1", (i+63)%64), false},
			{"10.111.0.1", false}, // the wider one's
			{"10.1.0.1", false},
		} {
			if got := w.arrive(about(uint32(i+1), far, tc.router), nil); got.met(rules.PurposeCrossed) == tc.want || (got.final == rules.Accept) != tc.want {
				t.Errorf("tunnel %d: an error from %s: verdict %s, want accept %v", i+1, tc.router, got.final, tc.want)
			}
		}
		for reqid, stopped := range map[uint32]bool{uint32(i + 1): false, 777: true} {
			p := tagged(from(reqid, far, "10.2.0.9"))
			if got := w.arrive(p, nil); (got.final == rules.Drop) != stopped {
				t.Errorf("from %s out of %d: verdict %s", far, reqid, got.final)
			}
		}
	}
}

// The cost of a tunnel depends on the number of its site among the others: the README
// names these figures.
func TestRulesOfManyTunnels(t *testing.T) {
	for _, tc := range []struct {
		name          string
		number        func(i int) int
		rules, chains int
	}{
		{"in a row", func(i int) int { return i }, 84_500, 3_000},
		{"in a row, of which one in eight is missing", func(i int) int { return i + i/7 }, 118_000, 3_400},
		{"no two beside each other", func(i int) int { return 2 * i }, 164_500, 3_800},
	} {
		var sites []sample.Site
		for i := range 10_000 {
			n := tc.number(i)
			sites = append(sites, peer(i+1, netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}).String(),
				[2]string{"172.16.0.0/16", fmt.Sprintf("10.%d.%d.0/24", 64+n>>8, n&255)}))
		}
		s := snapshotOf(sunHost(), sites...)
		rules, chains := 0, 0
		for _, rs := range Compile(firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}}).Rulesets {
			chains += len(rs.Chains)
			for _, c := range rs.Chains {
				rules += c.Rules.Len()
			}
		}
		t.Logf("%s: %d rules in %d chains", tc.name, rules, chains)
		if rules > tc.rules || chains > tc.chains {
			t.Errorf("10,000 tunnels, %s, take %d rules in %d chains, want at most %d in %d", tc.name, rules, chains, tc.rules, tc.chains)
		}
	}
}
