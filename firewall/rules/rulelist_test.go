package rules_test

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// The rules that are put into a list come out of it, for any rules.
func TestRulesAreAsTheyWereGiven(t *testing.T) {
	odd := []rules.Rule{
		{},
		{Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.MustParsePrefix("::/0")},
		{Src: netip.MustParsePrefix("10.1.2.3/8"), Dst: netip.MustParsePrefix("fd00::1/128")},
		{Src: netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 99), Dst: netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.1"), 120)},
		{Policy: rules.PolicyMatch{HasReqid: true}},
		{Policy: rules.PolicyMatch{HasReqid: true, Reqid: ^uint32(0), TunnelSrc: netip.MustParsePrefix("fe80::/10"), TunnelDst: netip.MustParsePrefix("192.0.2.1/32")}},
		{Tunnel: strings.Repeat("x", 127), Target: rules.Target{Verb: rules.Goto, Chain: strings.Repeat("y", 128)}},
		{Tunnel: strings.Repeat("x", 300), Purpose: "p", In: "eth0"},
		{Ct: rules.CtMatch{
			OrigSrc: netip.MustParsePrefix("10.0.0.0/8"), OrigDst: netip.MustParsePrefix("fd00::/8"),
			ReplSrc: netip.MustParsePrefix("10.2.0.0/32"), ReplDst: netip.MustParsePrefix("10.3.0.0/31"), NotReplDst: true,
		}},
	}
	for _, s := range fake.Samples() {
		odd = append(odd, s.Rule)
	}
	for i := range 40 { // more shapes than are looked through one by one
		odd = append(odd, rules.Rule{SPorts: firewall.Port(uint16(i))})
	}
	rnd := rand.New(rand.NewPCG(5, 1))
	for range 500 {
		want := make([]rules.Rule, rnd.IntN(60))
		for i := range want {
			want[i] = odd[rnd.IntN(len(odd))]
			if i > 0 && rnd.IntN(3) == 0 {
				want[i] = want[i-1]
				want[i].Policy.Reqid = rnd.Uint32()
			}
		}
		got := rules.ListOf(want...)
		if got.Len() != len(want) || !slices.Equal(got.Slice(), want) {
			t.Fatalf("%v became %v", want, got)
		}
		if !reflect.DeepEqual(got, rules.ListOf(slices.Clone(want)...)) {
			t.Fatalf("equal lists differ: %v", want)
		}
		if len(want) == 0 {
			continue
		}
		at := rnd.IntN(len(want))
		want[at].Limit.Burst++
		if reflect.DeepEqual(got, rules.ListOf(want...)) {
			t.Fatalf("unequal lists are the same")
		}
	}
}
