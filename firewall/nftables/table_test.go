package nftables

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// The file is the rule set as the prototype wrote it, so the model is compared
// with something that it did not make.
const referenceFile = "testdata/reference.nft"

func TestReferenceByNetlinkAndAsText(t *testing.T) {
	c := open(t)
	want := referenceTable()
	got := apply(t, c, want)
	if diff := cmp.Diff(bare(want), bare(got.Table)); diff != "" {
		t.Errorf("read back:\n%s", diff)
	}
	byNetlink := list(t)
	apply(t, c, sets.Table{})
	nft(t, want.String(), "-f", "-")
	asText := list(t)
	if diff := cmp.Diff(asText, byNetlink); diff != "" {
		t.Errorf("as text -, by netlink +:\n%s", diff)
	}
	apply(t, c, sets.Table{})
	reference, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	nft(t, string(reference), "-f", "-")
	if diff := cmp.Diff(sortedBlocks(list(t)), sortedBlocks(byNetlink)); diff != "" {
		t.Errorf("prototype -, by netlink +:\n%s", diff)
	}
}

// sortedBlocks puts the sets and chains of a listing in order: nft lists them in
// the order in which they were made.
func sortedBlocks(listing string) string {
	blocks := strings.SplitAfter(listing, "\n\t}\n")
	for i := range blocks {
		blocks[i] = strings.TrimLeft(blocks[i], "\n")
		blocks[i] = strings.TrimPrefix(blocks[i], "table inet xfrmfw {\n")
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "")
}

func TestRulesThatNftWroteAreReadAsTheSameValues(t *testing.T) {
	c := open(t)
	want := referenceTable()
	nft(t, want.String(), "-f", "-")
	got := read(t, c)
	for _, chain := range want.Chains {
		read, ok := got.Table.Chain(chain.Name)
		if !ok || len(read.Rules) != len(chain.Rules) {
			t.Fatalf("chain %s: %d rules, want %d", chain.Name, len(read.Rules), len(chain.Rules))
		}
		for i, r := range chain.Rules {
			if !read.Rules[i].Equal(r) && !isMerged(r) {
				t.Errorf("chain %s: got %s, want %s", chain.Name, read.Rules[i], r)
			}
		}
	}
}

// isMerged reports whether nft loads both ports of a rule at once, which this
// package does not.
func isMerged(r sets.Rule) bool {
	text := r.String()
	return strings.Contains(text, "udp sport") && strings.Contains(text, "udp dport")
}

func addrValue(s string) sets.Value { return sets.Addr(netip.MustParseAddr(s)) }

// everything is a table with every term, every kind of set and elements of each.
func everything() sets.Table {
	reqid := func(n uint64) sets.Value { return sets.Number(sets.TypeReqid, n) }
	port := func(n uint64) sets.Value { return sets.Number(sets.TypePort, n) }
	proto := func(n uint64) sets.Value { return sets.Number(sets.TypeProto, n) }
	span := func(first, last sets.Key) sets.Element { return sets.Element{Key: first, Last: last} }
	one := func(comment string, values ...sets.Value) sets.Element {
		return sets.Element{Key: sets.KeyOf(values...), Comment: comment}
	}
	t := sets.Table{
		Name:    testTable,
		Comment: "made by a test",
		Sets: []sets.Set{
			{Name: "claims", Comment: "case 1", Key: fields(sets.InReqid, sets.Src4, sets.Dst4), Counter: true, Size: 100, Elements: []sets.Element{
				one("office", reqid(1), addrValue("10.1.0.0"), addrValue("10.2.0.0")),
				{Key: sets.KeyOf(reqid(0x01020304), addrValue("10.3.0.0"), addrValue("10.2.0.0")), Count: sets.Count{Packets: 7, Bytes: 588}},
			}},
			{Name: "claims6", Key: fields(sets.InReqid, sets.Src6, sets.Dst6), Elements: []sets.Element{
				one("", reqid(1), addrValue("2001:db8::"), addrValue("fd00::")),
			}},
			{Name: "known", Key: fields(sets.InReqid), Elements: []sets.Element{one("a", reqid(1)), one("b", reqid(256)), one("", reqid(0xffffffff))}},
			{Name: "odd", Key: fields(sets.InReqid, sets.Src4, sets.Dst4, sets.DstPort), Interval: true, Counter: true, Elements: []sets.Element{
				span(sets.KeyOf(reqid(1), addrValue("10.0.0.0"), addrValue("10.2.0.0"), port(0)),
					sets.KeyOf(reqid(1), addrValue("10.255.255.255"), addrValue("10.2.0.255"), port(65535))),
				span(sets.KeyOf(reqid(256), addrValue("10.0.0.0"), addrValue("10.2.0.0"), port(80)),
					sets.KeyOf(reqid(511), addrValue("10.0.0.7"), addrValue("10.2.0.0"), port(81))),
			}},
			{Name: "lan", Key: fields(sets.InName, sets.Src4), Interval: true, Elements: []sets.Element{
				span(sets.KeyOf(sets.Name("eth0"), addrValue("10.2.0.0")), sets.KeyOf(sets.Name("eth0"), addrValue("10.2.0.255"))),
			}},
			{Name: "home", Key: fields(sets.Src4), Interval: true, Elements: []sets.Element{
				span(sets.KeyOf(addrValue("0.0.0.0")), sets.KeyOf(addrValue("0.255.255.255"))),
				{Key: sets.KeyOf(addrValue("10.0.0.0")), Last: sets.KeyOf(addrValue("10.0.0.255")), Comment: "lan"},
				span(sets.KeyOf(addrValue("10.0.1.0")), sets.KeyOf(addrValue("10.0.1.0"))),
				span(sets.KeyOf(addrValue("224.0.0.0")), sets.KeyOf(addrValue("255.255.255.255"))),
			}},
			{Name: "ports", Key: fields(sets.Proto4, sets.DstPort), Elements: []sets.Element{one("", proto(6), port(22)), one("", proto(17), port(53))}},
			{Name: "marks", Key: fields(sets.Mark, sets.InIndex, sets.CtState, sets.EtherSrc, sets.ICMPType), Elements: []sets.Element{
				one("", sets.Number(sets.TypeMark, 0x102), sets.Number(sets.TypeIndex, 3), sets.Number(sets.TypeCtState, 4), sets.Ether([6]byte{1, 2, 3, 4, 5, 6}), sets.Number(sets.TypeICMP, 3)),
			}},
			{Name: "restrict_in", Key: fields(sets.InReqid), Verdicts: true, Elements: []sets.Element{
				{Key: sets.KeyOf(reqid(1)), Verdict: sets.Verdict{Do: sets.Jump, Chain: "services"}, Comment: "office"},
				{Key: sets.KeyOf(reqid(2)), Verdict: sets.Verdict{Do: sets.Drop}},
			}},
			{Name: "refused", Key: fields(sets.CtOrigSrc4, sets.CtOrigDst4), Dynamic: true, Timeout: 10 * time.Second, Size: 1000},
			{Name: "untagged", Key: fields(sets.InReqid), Dynamic: true, Counter: true, Size: 65535},
		},
	}
	in := func(set string, f ...sets.Field) sets.Term { return sets.In{Fields: f, Set: set} }
	number := sets.Number
	flags := sets.Match{Field: sets.F(sets.TCPFlags), Mask: 6, Value: number(sets.TypeTCPFlags, 2)}
	t.Chains = []sets.Chain{
		{Name: "services", Comment: "restriction of office", Rules: []sets.Rule{
			{Terms: []sets.Term{sets.AnyBit(sets.CtState, sets.Established|sets.Related), sets.Verdict{Do: sets.Accept}}, Comment: "replies"},
			rule(num(sets.TCPDst, 22), sets.Verdict{Do: sets.Accept}),
			rule(sets.Range{Field: sets.F(sets.UDPDst), Low: port(1000), High: port(2000)}, sets.Verdict{Do: sets.Accept}),
			rule(sets.Range{Field: sets.F(sets.DstPort), Not: true, Low: port(1000), High: port(2000)}, back),
			{Terms: []sets.Term{sets.Counter{}, sets.Verdict{Do: sets.Drop}}, Count: sets.Count{Packets: 4, Bytes: 336}},
		}},
		{Name: "nat", Base: sets.Base{Type: sets.NAT, Hook: sets.Postrouting, Priority: -190}, Rules: []sets.Rule{
			rule(sets.Equals(sets.OutName, sets.Name("vti1")), prefix(sets.Src4, "10.2.0.0/24"), sets.SNAT{To: sets.F(sets.Src4)}),
		}},
		{Name: "route_", Base: sets.Base{Type: sets.Route, Hook: sets.Output, Priority: -150, Policy: sets.PolicyDrop}},
		{Name: "pre", Base: sets.Base{Type: sets.Filter, Hook: sets.Prerouting, Priority: -160}, Rules: []sets.Rule{
			rule(sets.Match{Field: sets.F(sets.EtherDst), Op: sets.Neq, Value: sets.Ether([6]byte{1, 2, 3, 4, 5, 6})}, back),
			rule(sets.Equals(sets.InName, sets.NamePrefix("ppp")), back),
			rule(sets.Match{Field: sets.F(sets.InName), Op: sets.Neq, Value: sets.Name("eth0")}, back),
			rule(sets.Equals(sets.InKind, sets.Name("vrf")), back),
			rule(num(sets.PacketType, 1), back),
			rule(prefix(sets.Src4, "10.0.0.0/9"), prefix(sets.Dst4, "10.0.0.0/8"), back),
			rule(prefix(sets.Src4, "0.0.0.0/0"), back),
			rule(prefix(sets.Src6, "fe80::/10"), prefix(sets.Dst6, "2001:db8::/32"), back),
			rule(prefix(sets.CtOrigSrc4, "10.0.0.0/8"), prefix(sets.CtReplyDst6, "2001:db8::/33"), back),
			rule(sets.In{Fields: fields(sets.CtOrigSrc4), Not: true, Set: "home"}, back),
			rule(in("home", sets.F(sets.Src4)), back),
			rule(in("odd", sets.F(sets.InReqid), sets.F(sets.Src4), sets.F(sets.Dst4), sets.F(sets.DstPort)), back),
			rule(in("lan", sets.F(sets.InName), sets.F(sets.Src4)), back),
			rule(in("claims", sets.F(sets.InReqid).At(2), sets.F(sets.CtReplySrc4).Masked(17), sets.F(sets.Dst4).Masked(0)), back),
			rule(in("claims6", sets.F(sets.InReqid), sets.F(sets.Src6).Masked(61), sets.F(sets.Dst6)), back),
			rule(in("ports", sets.F(sets.Proto4), sets.F(sets.UDPDst)), back),
			rule(in("marks", fields(sets.Mark, sets.InIndex, sets.CtState, sets.EtherSrc, sets.ICMPType)...), back),
			rule(sets.Dispatch{Fields: fields(sets.InReqid), Map: "restrict_in"}),
			rule(sets.Update{Fields: fields(sets.InReqid), Set: "untagged"}),
			rule(num(sets.InSPI, 0xc0000001), sets.Equals(sets.InOuterSrc4, addrValue("192.0.2.1")), sets.Equals(sets.InOuterDst6, addrValue("2001:db8::1")), back),
			rule(sets.Match{Field: sets.F(sets.CtState), Op: sets.Neq, Value: number(sets.TypeCtState, sets.Related)}, back),
			rule(sets.NoBit(sets.CtStatus, sets.DNATed), num(sets.CtMark, 5), num(sets.CtDirection, 1), num(sets.CtProto, 50), back),
			rule(sets.OneOf{Field: sets.F(sets.L4Proto), Not: true, Values: []sets.Value{proto(17), proto(6)}}, back),
			rule(oneOf(sets.ICMPv6Type, 1, 2, 3, 4), related, back),
			rule(sets.OneOf{Field: sets.F(sets.InReqid), Values: []sets.Value{reqid(256), reqid(3)}}, back),
			rule(sets.OneOf{Field: sets.F(sets.Src6), Values: []sets.Value{addrValue("2001:db8::1"), addrValue("fd00::1")}}, back),
			rule(sets.OneOf{Field: sets.F(sets.InName), Values: []sets.Value{sets.Name("eth0"), sets.Name("wan")}}, back),
			rule(sets.Missing(sets.FibDstOutput), num(sets.FibDstType, 3), back),
			rule(sets.Log{Prefix: "x", ToGroup: true, Group: 5}),
			rule(sets.Log{}),
			rule(sets.Limit{Rate: 6, Per: time.Hour, Burst: 9, Over: true}, back),
			rule(sets.SetMark{Value: 5, Mask: 0xffffffff}),
			rule(sets.SetMark{Value: tag, Mask: tag | verified}),
			rule(sets.SetMark{Value: verified, Mask: verified}, sets.Verdict{Do: sets.Goto, Chain: "services"}),
			rule(num(sets.L4Proto, 6), back),
			rule(num(sets.NFProto, 10), num(sets.L4Proto, 58), back),
		}},
		{Name: "forward_", Base: sets.Base{Type: sets.Filter, Hook: sets.Forward, Priority: -5}, Rules: []sets.Rule{
			rule(sets.Update{Fields: fields(sets.CtOrigSrc4, sets.CtOrigDst4), Set: "refused", Add: true, Timeout: 5 * time.Second}),
			rule(sets.Match{Field: sets.F(sets.OutReqid).At(1), Value: reqid(7)}, flags, sets.MaxSeg{Size: 1360}),
			rule(flags, sets.Match{Field: sets.F(sets.TCPMSS), Op: sets.Gt, Value: number(sets.TypeMSS, 1300)}, sets.MaxSeg{}),
			rule(sets.Missing(sets.RouteIPsec), sets.Equals(sets.OutKind, sets.Name("vti")), num(sets.OutIndex, 1), back),
			rule(sets.Reject{With: sets.TCPReset}),
			rule(num(sets.L4Proto, 17), sets.Reject{With: sets.PortUnreachable}),
			rule(sets.Reject{With: sets.NoRoute}),
		}},
	}
	t.Sort()
	return t
}

// nft 1.0.6 prints ports of a connection that it can't read again.
func TestPortsOfAConnection(t *testing.T) {
	c := open(t)
	want := sets.Table{Name: testTable, Chains: []sets.Chain{{Name: "a", Rules: []sets.Rule{
		rule(num(sets.CtOrigDstPort, 53), num(sets.CtReplySrcPort, 53), back),
		rule(num(sets.CtOrigSrcPort, 53), num(sets.CtReplyDstPort, 53), back),
	}}}}
	if diff := cmp.Diff(want, bare(apply(t, c, want).Table)); diff != "" {
		t.Errorf("wrote -, read +:\n%s", diff)
	}
}

func TestEverythingIsReadBackAsItWasWritten(t *testing.T) {
	c := open(t)
	want := everything()
	got := apply(t, c, want)
	if diff := cmp.Diff(bare(want), bare(got.Table)); diff != "" {
		t.Fatalf("wrote -, read +:\n%s", diff)
	}
	if change := sets.Diff(got.Table, want); !change.Empty() {
		t.Errorf("a second time there is a change:\n%s", change)
	}
	byNetlink := list(t)
	apply(t, c, sets.Table{})
	nft(t, want.String(), "-f", "-")
	if diff := cmp.Diff(list(t), byNetlink); diff != "" {
		t.Errorf("as text -, by netlink +:\n%s", diff)
	}
}
