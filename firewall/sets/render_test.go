package sets

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func addr(text string) Value { return Addr(netip.MustParseAddr(text)) }

func TestTermsInTheWordsOfNft(t *testing.T) {
	pair := []Field{F(InReqid), F(Src4).Masked(24), F(Dst4).Masked(24)}
	for _, c := range []struct {
		term Term
		want string
	}{
		{Exists(SecPath), "meta ipsec exists"},
		{Missing(RouteIPsec), "rt ipsec missing"},
		{Missing(FibSrcInput), "fib saddr . iif oif missing"},
		{EqualsNumber(FibDstType, Local), "fib daddr type local"},
		{EqualsNumber(NFProto, 2), "meta nfproto ipv4"},
		{EqualsNumber(L4Proto, 50), "meta l4proto esp"},
		{EqualsNumber(L4Proto, 99), "meta l4proto 99"},
		{EqualsNumber(InIndex, 1), "iif lo"},
		{EqualsNumber(InIndex, 7), "iif 7"},
		{Equals(InName, Name("eth0")), `iifname "eth0"`},
		{Equals(OutName, NamePrefix("ppp")), `oifname "ppp*"`},
		{Equals(OutKind, Name("vrf")), `meta oifkind "vrf"`},
		{Match{Field: F(EtherDst), Op: Neq, Value: Ether([6]byte{1, 2, 3, 4, 5, 6})}, "ether daddr != 01:02:03:04:05:06"},
		{AllBits(Mark, 0x30000000), "meta mark & 0x30000000 == 0x30000000"},
		{NoBit(Mark, 0x30000000), "meta mark & 0x30000000 == 0x00000000"},
		{AnyBit(Mark, 0x30000000), "meta mark & 0x30000000 != 0x00000000"},
		{AnyBit(CtState, Related|New), "ct state related,new"},
		{NoBit(CtState, Related), "ct state & related == 0x0"},
		{NoBit(CtStatus, SNATed|DNATed), "ct status & (snat|dnat) == 0x0"},
		{Match{Field: F(CtState), Op: Neq, Value: Number(TypeCtState, Related)}, "ct state != related"},
		{Match{Field: F(TCPFlags), Mask: 6, Value: Number(TypeTCPFlags, 2)}, "tcp flags & (syn|rst) == syn"},
		{EqualsNumber(CtDirection, 1), "ct direction reply"},
		{Match{Field: F(Src4).Masked(9), Value: addr("10.0.0.0")}, "ip saddr 10.0.0.0/9"},
		{Match{Field: F(Src4).Masked(0), Value: addr("0.0.0.0")}, "ip saddr 0.0.0.0/0"},
		{Match{Field: F(Dst6).Masked(10), Op: Neq, Value: addr("fe80::")}, "ip6 daddr != fe80::/10"},
		{EqualsNumber(UDPDst, 4500), "udp dport 4500"},
		{Match{Field: F(TCPMSS), Op: Gt, Value: Number(TypeMSS, 1300)}, "tcp option maxseg size > 1300"},
		{Match{Field: F(InReqid).At(1), Value: Number(TypeReqid, 7)}, "ipsec in spnum 1 reqid 7"},
		{Equals(InOuterSrc4, addr("192.0.2.1")), "ipsec in ip saddr 192.0.2.1"},
		{EqualsNumber(OutSPI, 0xc0000101), "ipsec out spi 0xc0000101"},
		{Range{Field: F(TCPDst), Low: Number(TypePort, 22), High: Number(TypePort, 25)}, "tcp dport 22-25"},
		{OneOf{Field: F(UDPDst), Values: []Value{Number(TypePort, 500), Number(TypePort, 4500)}}, "udp dport { 500, 4500 }"},
		{OneOf{Field: F(L4Proto), Not: true, Values: []Value{Number(TypeProto, 6)}}, "meta l4proto != { tcp }"},
		{In{Fields: pair, Set: "c4_24_24"}, "ipsec in reqid . ip saddr & 255.255.255.0 . ip daddr & 255.255.255.0 @c4_24_24"},
		{In{Fields: []Field{F(CtOrigSrc4)}, Not: true, Set: "home"}, "ct original ip saddr != @home"},
		{In{Fields: []Field{F(Src6).Masked(48)}, Set: "rem"}, "ip6 saddr & ffff:ffff:ffff:: @rem"},
		{Dispatch{Fields: []Field{F(OutReqid)}, Map: "restrict_out"}, "ipsec out reqid vmap @restrict_out"},
		{Update{Fields: []Field{F(CtOrigSrc4), F(CtOrigDst4)}, Set: "refused", Timeout: 10 * time.Second}, "update @refused { ct original ip saddr . ct original ip daddr timeout 10s }"},
		{Update{Fields: []Field{F(InReqid)}, Set: "untagged", Add: true}, "add @untagged { ipsec in reqid }"},
		{SetMark{Value: 1 << 29, Mask: 1 << 29}, "meta mark set meta mark | 0x20000000"},
		{SetMark{Mask: 3 << 28}, "meta mark set meta mark & 0xcfffffff"},
		{SetMark{Value: 1 << 28, Mask: 3 << 28}, "meta mark set meta mark & 0xcfffffff | 0x10000000"},
		{SetMark{Value: 5, Mask: 0xffffffff}, "meta mark set 0x00000005"},
		{MaxSeg{Size: 1360}, "tcp option maxseg size set 1360"},
		{MaxSeg{}, "tcp option maxseg size set rt mtu"},
		{Log{Prefix: "xfrmfw:leak:"}, `log prefix "xfrmfw:leak:"`},
		{Log{Prefix: "x", ToGroup: true, Group: 5}, `log prefix "x" group 5`},
		{Limit{Rate: 5, Per: time.Second, Burst: 5}, "limit rate 5/second burst 5 packets"},
		{Limit{Rate: 6, Per: time.Hour, Burst: 9, Over: true}, "limit rate over 6/hour burst 9 packets"},
		{Reject{AdminProhibited}, "reject with icmpx admin-prohibited"},
		{Reject{TCPReset}, "reject with tcp reset"},
		{SNAT{To: F(Src4)}, "snat ip to ip saddr"},
		{SNAT{To: F(Src6)}, "snat ip6 to ip6 saddr"},
		{Verdict{Do: Goto, Chain: "drop_spoof"}, "goto drop_spoof"},
		{Verdict{Do: Return}, "return"},
	} {
		if got := c.term.String(); got != c.want {
			t.Errorf("%#v: got %q, want %q", c.term, got, c.want)
		}
	}
}

func TestTableText(t *testing.T) {
	table := sampleTable()
	want := `table inet xfrmfw {
	set c4_24_24 {
		typeof ipsec in reqid . ip saddr . ip daddr
		counter
		elements = { 1 . 10.1.0.0 . 10.2.0.0 counter packets 3 bytes 252 comment "t5c2f8345ac",
			     2 . 10.3.0.0 . 10.2.0.0 }
	}
	map restrict_in {
		typeof ipsec in reqid : verdict
		elements = { 1 : jump in_office }
	}
	set services {
		typeof ip saddr . ip protocol . th dport
		size 100
		flags interval
		elements = { 10.0.0.0/8 . tcp . 1-1023,
			     192.0.2.1-192.0.2.7 . udp . 53 }
	}
	set untagged {
		typeof ipsec in reqid
		size 65535
		flags dynamic,timeout
		timeout 10s
	}
	chain in_office {
		comment "restriction of office"
		tcp dport 22 accept
	}
	chain pre {
		type filter hook prerouting priority -160; policy accept;
		meta ipsec exists ipsec in reqid . ip saddr & 255.255.255.0 . ip daddr & 255.255.255.0 @c4_24_24 return comment "case 1"
		ipsec in reqid vmap @restrict_in
		counter packets 5 bytes 400 drop
	}
}
`
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Error(diff)
	}
	if err := table.Validate(); err != nil {
		t.Error(err)
	}
	if got := (Table{}).String(); got != "" {
		t.Errorf("a table that does not exist: %q", got)
	}
}

// sampleTable has one of everything.
func sampleTable() Table {
	t := Table{
		Name: "xfrmfw",
		Sets: []Set{
			{Name: "c4_24_24", Key: []Field{F(InReqid), F(Src4), F(Dst4)}, Counter: true, Opens: true, Elements: []Element{
				{Key: KeyOf(Number(TypeReqid, 2), addr("10.3.0.0"), addr("10.2.0.0"))},
				{Key: KeyOf(Number(TypeReqid, 1), addr("10.1.0.0"), addr("10.2.0.0")), Comment: "t5c2f8345ac", Count: Count{3, 252}},
			}},
			{Name: "services", Key: []Field{F(Src4), F(Proto4), F(DstPort)}, Interval: true, Size: 100, Elements: []Element{
				{
					Key:  KeyOf(addr("10.0.0.0"), Number(TypeProto, 6), Number(TypePort, 1)),
					Last: KeyOf(addr("10.255.255.255"), Number(TypeProto, 6), Number(TypePort, 1023)),
				},
				{
					Key:  KeyOf(addr("192.0.2.1"), Number(TypeProto, 17), Number(TypePort, 53)),
					Last: KeyOf(addr("192.0.2.7"), Number(TypeProto, 17), Number(TypePort, 53)),
				},
			}},
			{Name: "restrict_in", Key: []Field{F(InReqid)}, Verdicts: true, Elements: []Element{
				{Key: KeyOf(Number(TypeReqid, 1)), Verdict: Verdict{Jump, "in_office"}},
			}},
			{Name: "untagged", Key: []Field{F(InReqid)}, Dynamic: true, Size: 65535, Timeout: 10 * time.Second},
		},
		Chains: []Chain{
			{Name: "pre", Base: Base{Type: Filter, Hook: Prerouting, Priority: -160}, Rules: []Rule{
				{Comment: "case 1", Handle: 11, Terms: []Term{
					Exists(SecPath),
					In{Fields: []Field{F(InReqid), F(Src4).Masked(24), F(Dst4).Masked(24)}, Set: "c4_24_24"},
					Verdict{Do: Return},
				}},
				{Handle: 12, Terms: []Term{Dispatch{Fields: []Field{F(InReqid)}, Map: "restrict_in"}}},
				{Handle: 13, Terms: []Term{Counter{}, Verdict{Do: Drop}}, Count: Count{5, 400}},
			}},
			{Name: "in_office", Comment: "restriction of office", Rules: []Rule{
				{Handle: 14, Terms: []Term{EqualsNumber(TCPDst, 22), Verdict{Do: Accept}}},
			}},
		},
	}
	t.Sort()
	return t
}
