package compile_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// lacking is the result for programs that lack the same features in both families.
func lacking(r compile.Result, f rules.Features, host xfrm.Host) compile.Result {
	return r.Without(map[xfrm.Family]rules.Features{xfrm.IPv4: f, xfrm.IPv6: f}, host)
}

// compiled is one of the gateways of fake.Variety.
func compiled(seed uint64) (compile.Result, xfrm.Host) {
	s, in := fake.Variety(seed)
	in.Set, in.Host = xfrm.Tunnels(s), s.Host
	return compile.Compile(in), s.Host
}

// TestWithout: no rule needs a feature that is lacking, the rules that are left are
// valid, and the receiver is as it was.
func TestWithout(t *testing.T) {
	seen := rules.Features(0)
	for seed := range uint64(20) {
		result, host := compiled(seed)
		before := fmt.Sprint(allTexts(result))
		rnd := rand.New(rand.NewPCG(seed, 9))
		for _, f := range append(rules.AllFeatures.All(), rules.AllFeatures, rules.Features(rnd.Uint32())&rules.AllFeatures) {
			got := lacking(result, f, host)
			for i, rs := range got.Rulesets {
				if err := rules.Validate(rs); err != nil {
					t.Fatalf("seed %d without %s: %v", seed, f, err)
				}
				for _, c := range rs.Chains {
					for _, r := range c.Rules.All() {
						if need := r.Needs() & f; need != 0 || c.Table == rules.NAT && f&rules.FeatureNAT != 0 {
							t.Fatalf("seed %d without %s: %s %s has a rule that needs %s: %s", seed, f, rs.Family, c.Name, need, r.Text(rs.Family))
						}
					}
				}
				needed := rules.Features(0)
				for _, c := range result.Rulesets[i].Chains {
					for _, r := range c.Rules.All() {
						needed |= r.Needs() & f
					}
				}
				for _, one := range needed.All() {
					named := func(w string) bool {
						return strings.Contains(w, one.Extension(rs.Family).Name+":") && strings.Contains(w, "load the module ")
					}
					if !slices.ContainsFunc(got.Warnings, named) {
						t.Errorf("seed %d without %s: no warning names it: %q", seed, one, got.Warnings)
					}
				}
				seen |= needed
			}
			if again := lacking(got, f, host); !cmp.Equal(allTexts(again), allTexts(got)) || len(again.Warnings) != len(got.Warnings) {
				t.Errorf("seed %d without %s: a second time it is another result", seed, f)
			}
		}
		if fmt.Sprint(allTexts(result)) != before {
			t.Fatalf("seed %d: the result that was given has changed", seed)
		}
		if same := lacking(result, 0, host); len(same.Rulesets) > 0 && &same.Rulesets[0] != &result.Rulesets[0] {
			t.Error("with nothing lacking the rule sets are copied")
		}
	}
	if missing := rules.AllFeatures &^ rules.FeatureNAT &^ seen; missing != 0 {
		t.Errorf("no gateway needs %s", missing)
	}
}

// TestWithoutVerdicts: without a feature each packet meets the verdict that the whole rules have for the packet as such a
// kernel sees it.
func TestWithoutVerdicts(t *testing.T) {
	for _, tt := range []struct {
		lacks rules.Features
		// seen is the packet as that kernel sees it.
		seen func(*trace.Packet, xfrm.Host)
	}{
		{rules.FeatureConntrack, func(p *trace.Packet, _ xfrm.Host) { p.Ct = trace.Conntrack{} }},
		{rules.FeatureAddrType, func(*trace.Packet, xfrm.Host) {}},
		{rules.FeatureRPFilter, func(p *trace.Packet, _ xfrm.Host) { p.FailsRPFilter = false }},
		{rules.FeatureLimit | rules.FeatureLog | rules.FeatureNFLog, func(*trace.Packet, xfrm.Host) {}},
		{rules.FeatureTCPMSS, func(*trace.Packet, xfrm.Host) {}},
		{rules.FeatureReject, func(*trace.Packet, xfrm.Host) {}},
	} {
		t.Run(tt.lacks.String(), func(t *testing.T) {
			asked, differ := 0, 0
			for seed := range uint64(25) {
				result, host := compiled(seed)
				less := lacking(result, tt.lacks, host)
				rnd := rand.New(rand.NewPCG(seed, 10))
				for i, rs := range result.Rulesets {
					whole, without := trace.NewEvaluator(rs), trace.NewEvaluator(less.Rulesets[i])
					packets := newPackets(rnd, rs, host)
					for range 300 {
						p := packets.next()
						table, hook := packets.place()
						q := p
						tt.seen(&q, host)
						wantP, want, _ := whole.Trace(table, hook, q)
						gotP, got, _ := without.Trace(table, hook, q)
						if want == rules.Reject && tt.lacks&rules.FeatureReject != 0 {
							want = rules.Drop
						}
						if got != want || gotP.Mark != wantP.Mark {
							t.Fatalf("seed %d, %s %s: %+v: %v and mark %#x, want %v and %#x", seed, table, hook, q, got, gotP.Mark, want, wantP.Mark)
						}
						// As the whole kernel sees it: how often that is another verdict.
						if _, v, _ := whole.Trace(table, hook, p); v != got {
							differ++
						}
						asked++
					}
				}
			}
			t.Logf("%d packets; %d have another verdict with it", asked, differ)
			if tt.lacks&(rules.FeatureConntrack|rules.FeatureRPFilter) != 0 && differ == 0 {
				t.Error("no packet shows a difference: the test can't fail")
			}
		})
	}
}

// packets makes random packets of the addresses, reqids and interfaces that a rule set names.
type packets struct {
	rnd    *rand.Rand
	rs     rules.Ruleset
	addrs  []netip.Addr
	reqids []uint32
	links  []string
	local  map[netip.Addr]bool
}

func newPackets(rnd *rand.Rand, rs rules.Ruleset, host xfrm.Host) *packets {
	p := &packets{rnd: rnd, rs: rs, reqids: []uint32{99}, local: make(map[netip.Addr]bool)}
	for _, c := range rs.Chains {
		for _, r := range c.Rules.All() {
			for _, prefix := range []netip.Prefix{r.Src, r.Dst, r.Ct.OrigSrc, r.Ct.ReplSrc} {
				if prefix.IsValid() {
					p.addrs = append(p.addrs, prefix.Addr(), prefix.Addr().Next())
				}
			}
			if r.Policy.HasReqid {
				p.reqids = append(p.reqids, r.Policy.Reqid)
			}
		}
	}
	for _, a := range host.Addresses {
		if a.Prefix.Addr().Is4() == (rs.Family == xfrm.IPv4) {
			p.local[a.Prefix.Addr()] = true
			p.addrs = append(p.addrs, a.Prefix.Addr())
		}
	}
	for _, l := range host.Links {
		p.links = append(p.links, l.Name)
	}
	p.addrs = slices.DeleteFunc(p.addrs, func(a netip.Addr) bool { return !a.IsValid() })
	return p
}

func (p *packets) place() (rules.Table, string) {
	at := p.rs.Hooks[p.rnd.IntN(len(p.rs.Hooks))]
	return at.Table, at.From
}

func (p *packets) addr() netip.Addr { return p.addrs[p.rnd.IntN(len(p.addrs))] }

func (p *packets) path() []xfrm.Transform {
	if p.rnd.IntN(2) == 0 {
		return nil
	}
	return []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: p.reqids[p.rnd.IntN(len(p.reqids))], Src: p.addr(), Dst: p.addr()}}
}

func (p *packets) next() trace.Packet {
	icmp := xfrm.ICMP
	if p.rs.Family == xfrm.IPv6 {
		icmp = xfrm.ICMPv6
	}
	q := trace.Packet{
		Src: p.addr(), Dst: p.addr(), In: p.links[p.rnd.IntN(len(p.links))], Out: p.links[p.rnd.IntN(len(p.links))],
		Proto: []xfrm.Proto{xfrm.TCP, xfrm.UDP, icmp, icmp, xfrm.ESP}[p.rnd.IntN(5)],
		SPort: []uint16{500, 4500, 40000}[p.rnd.IntN(3)], DPort: []uint16{500, 4500, 22}[p.rnd.IntN(3)],
		ICMPType: []uint8{1, 2, 3, 8, 11, 135}[p.rnd.IntN(6)], Mark: p.rnd.Uint32() & 0x3000_0000,
		SecPath: p.path(), OutBundle: p.path(), FailsRPFilter: p.rnd.IntN(2) == 0,
		Ct: trace.Conntrack{
			State:   []rules.CtState{0, rules.CtRelated, rules.CtEstablished, rules.CtSNAT, rules.CtDNAT | rules.CtEstablished}[p.rnd.IntN(5)],
			Dir:     []rules.CtDir{rules.CtOriginal, rules.CtReply}[p.rnd.IntN(2)],
			OrigSrc: p.addr(), OrigDst: p.addr(), ReplSrc: p.addr(), ReplDst: p.addr(), Proto: xfrm.UDP, OrigSPort: 500, OrigDPort: 500,
		},
	}
	q.SrcLocal, q.DstLocal = p.local[q.Src], p.local[q.Dst]
	return q
}

// allTexts are all rules as iptables-restore reads them.
func allTexts(r compile.Result) []string {
	var all []string
	for _, rs := range r.Rulesets {
		for _, c := range rs.Chains {
			for _, rule := range c.Rules.All() {
				all = append(all, fmt.Sprintf("%s %s %s %s", rs.Family, c.Table, c.Name, rule.Text(rs.Family)))
			}
		}
		for _, h := range rs.Hooks {
			all = append(all, fmt.Sprintf("%s %s %s -> %s", rs.Family, h.Table, h.From, h.To))
		}
	}
	return all
}
