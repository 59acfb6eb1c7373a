package sets

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestImpliedMatchesMakeNoDifference(t *testing.T) {
	v4, v6 := EqualsNumber(NFProto, 2), EqualsNumber(NFProto, 10)
	icmp, udp := EqualsNumber(L4Proto, 1), EqualsNumber(L4Proto, 17)
	source := Equals(Src4, addr("10.0.0.1"))
	drop := Verdict{Do: Drop}
	for _, c := range []struct {
		name        string
		terms, want []Term
	}{
		{"family before an address", []Term{v4, source, drop}, []Term{source, drop}},
		{"family again", []Term{source, v4, Exists(SecPath), drop}, []Term{source, Exists(SecPath), drop}},
		{"other family before an address", []Term{v6, source, drop}, []Term{v6, source, drop}},
		{"family before something else", []Term{v4, Exists(RouteIPsec), SNAT{F(Src4)}}, []Term{v4, Exists(RouteIPsec), SNAT{F(Src4)}}},
		{"family and protocol before ICMP", []Term{v4, icmp, EqualsNumber(ICMPType, 3)}, []Term{EqualsNumber(ICMPType, 3)}},
		{"protocol before ports of any protocol", []Term{udp, EqualsNumber(DstPort, 53)}, []Term{EqualsNumber(UDPDst, 53)}},
		{"protocol behind an address", []Term{source, udp, EqualsNumber(UDPDst, 53)}, []Term{source, EqualsNumber(UDPDst, 53)}},
		{"protocol alone", []Term{udp, drop}, []Term{udp, drop}},
		{"list of one value", []Term{OneOf{Field: F(DstPort), Not: true, Values: []Value{Number(TypePort, 5)}}},
			[]Term{Match{Field: F(DstPort), Op: Neq, Value: Number(TypePort, 5)}}},
		{"device before its address", []Term{EtherMatch(), Equals(EtherDst, Ether([6]byte{2}))}, []Term{Equals(EtherDst, Ether([6]byte{2}))}},
		{"protocol that is excluded", []Term{Match{Field: F(L4Proto), Op: Neq, Value: Number(TypeProto, 17)}, EqualsNumber(UDPDst, 53)},
			[]Term{Match{Field: F(L4Proto), Op: Neq, Value: Number(TypeProto, 17)}, EqualsNumber(UDPDst, 53)}},
	} {
		if diff := cmp.Diff(c.want, Canonical(c.terms)); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
		if !(Rule{Terms: c.terms}).Equal(Rule{Terms: c.want, Handle: 7, Count: Count{1, 2}}) {
			t.Errorf("%s: not equal", c.name)
		}
	}
	if (Rule{Terms: []Term{source}}).Equal(Rule{Terms: []Term{v6, source}}) {
		t.Error("a match that is not implied makes no difference")
	}
}

func TestImpliedMatchesInTheOrderOfNft(t *testing.T) {
	var known Implied
	var got []string
	for _, term := range []Term{
		In{Fields: []Field{F(InName), F(Src4), F(UDPDst)}, Set: "a"},
		Equals(Dst4, addr("10.0.0.1")),
		EqualsNumber(ICMPType, 3),
		Reject{TCPReset},
	} {
		for _, m := range known.Before(term) {
			got = append(got, m.String())
		}
		got = append(got, term.String())
	}
	want := []string{
		"meta nfproto ipv4", "meta l4proto udp", "iifname . ip saddr . udp dport @a",
		"ip daddr 10.0.0.1",
		"meta l4proto icmp", "icmp type 3",
		"meta l4proto tcp", "reject with tcp reset",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
