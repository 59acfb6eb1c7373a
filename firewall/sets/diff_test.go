package sets

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDiff(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(have, want *Table)
		// The operations of the three stages, with a line of dashes between.
		want string
	}{
		{"nothing", func(have, want *Table) {}, "--\n--\n"},
		{"opens flag alone", func(have, want *Table) { want.Sets[0].Opens = false }, "--\n--\n"},
		{"a claim more and one less", func(have, want *Table) {
			e := want.Sets[0].Elements
			want.Sets[0].Elements = []Element{e[0], {Key: KeyOf(Number(TypeReqid, 3), addr("10.4.0.0"), addr("10.2.0.0"))}}
		}, `delete element c4_24_24 { 2 . 10.3.0.0 . 10.2.0.0 }
--
--
add element c4_24_24 { 3 . 10.4.0.0 . 10.2.0.0 }
`},
		{"a guard more and one less", func(have, want *Table) {
			have.Sets[0].Opens, want.Sets[0].Opens = false, false
			want.Sets[0].Elements = []Element{want.Sets[0].Elements[0], {Key: KeyOf(Number(TypeReqid, 3), addr("10.4.0.0"), addr("10.2.0.0"))}}
		}, `add element c4_24_24 { 3 . 10.4.0.0 . 10.2.0.0 }
--
--
delete element c4_24_24 { 2 . 10.3.0.0 . 10.2.0.0 }
`},
		{"a range that overlaps the one before it", func(have, want *Table) {
			want.Sets[2].Elements[0].Last = KeyOf(addr("10.255.255.255"), Number(TypeProto, 6), Number(TypePort, 22))
		}, `--
delete element services { 10.0.0.0/8 . tcp . 1-1023 }
add element services { 10.0.0.0/8 . tcp . 1-22 }
--
`},
		{"another comment keeps the count", func(have, want *Table) {
			want.Sets[0].Elements[0].Comment, want.Sets[0].Elements[0].Count = "office", Count{}
		}, `--
delete element c4_24_24 { 1 . 10.1.0.0 . 10.2.0.0 counter packets 3 bytes 252 comment "t5c2f8345ac" }
add element c4_24_24 { 1 . 10.1.0.0 . 10.2.0.0 counter packets 3 bytes 252 comment "office" }
--
`},
		{"counts make no difference", func(have, want *Table) {
			want.Sets[0].Elements[0].Count = Count{}
			want.Chains[1].Rules[2].Count = Count{}
		}, "--\n--\n"},
		{"rule in the middle", func(have, want *Table) {
			r := want.Chains[1].Rules
			want.Chains[1].Rules = []Rule{r[0], {Terms: []Term{Verdict{Do: Return}}}, r[1], r[2]}
		}, "--\ninsert rule pre before 12: return\n--\n"},
		{"rule at the end", func(have, want *Table) {
			want.Chains[1].Rules = append(want.Chains[1].Rules, Rule{Terms: []Term{Verdict{Do: Return}}})
		}, "--\nadd rule pre return\n--\n"},
		{"rules that change places", func(have, want *Table) {
			r := want.Chains[1].Rules
			want.Chains[1].Rules = []Rule{r[1], r[0], r[2]}
		}, `--
delete rule pre handle 11: meta ipsec exists ipsec in reqid . ip saddr & 255.255.255.0 . ip daddr & 255.255.255.0 @c4_24_24 return comment "case 1"
insert rule pre before 13: meta ipsec exists ipsec in reqid . ip saddr & 255.255.255.0 . ip daddr & 255.255.255.0 @c4_24_24 return comment "case 1"
--
`},
		{"rule without a handle", func(have, want *Table) {
			have.Chains[0].Rules[0].Handle = 0
			want.Chains[0].Rules = append(want.Chains[0].Rules, Rule{Terms: []Term{Verdict{Do: Drop}}})
		}, "--\nflush chain in_office\nadd rule in_office tcp dport 22 accept\nadd rule in_office drop\n--\n"},
		{"unknown rule goes", func(have, want *Table) {
			have.Chains[0].Rules = append([]Rule{{Handle: 20, Terms: []Term{Unknown{"numgen"}}}}, have.Chains[0].Rules...)
		}, "--\ndelete rule in_office handle 20: unknown expression \"numgen\"\n--\n"},
		{"set with another size", func(have, want *Table) { want.Sets[2].Size = 200 }, `--
delete set services
add set services
add element services { 10.0.0.0/8 . tcp . 1-1023, 192.0.2.1-192.0.2.7 . udp . 53 }
--
`},
		{"set that a rule looks up, with another size", func(have, want *Table) { want.Sets[0].Size = 8 }, `--
delete rule pre handle 11: meta ipsec exists ipsec in reqid . ip saddr & 255.255.255.0 . ip daddr & 255.255.255.0 @c4_24_24 return comment "case 1"
delete set c4_24_24
add set c4_24_24
add element c4_24_24 { 1 . 10.1.0.0 . 10.2.0.0 counter packets 3 bytes 252 comment "t5c2f8345ac", 2 . 10.3.0.0 . 10.2.0.0 }
insert rule pre before 12: meta ipsec exists ipsec in reqid . ip saddr & 255.255.255.0 . ip daddr & 255.255.255.0 @c4_24_24 return comment "case 1"
--
`},
		{"chain at another priority", func(have, want *Table) {
			want.Chains[1].Base.Priority = -5
			want.Chains[1].Rules = want.Chains[1].Rules[2:]
		}, `--
flush chain pre
delete chain pre
add chain pre { type filter hook prerouting priority -5; policy accept; }
add rule pre counter packets 5 bytes 400 drop
--
`},
		{"chain with another comment, to which a map jumps", func(have, want *Table) { want.Chains[0].Comment = "" }, `--
flush chain in_office
delete rule pre handle 12: ipsec in reqid vmap @restrict_in
delete map restrict_in
delete chain in_office
add chain in_office
add map restrict_in
add element restrict_in { 1 : jump in_office }
add rule in_office tcp dport 22 accept
insert rule pre before 13: ipsec in reqid vmap @restrict_in
--
`},
		{"restriction goes", func(have, want *Table) {
			want.Sets[1].Elements, want.Chains = nil, want.Chains[1:]
		}, "--\nflush chain in_office\n--\ndelete element restrict_in { 1 : jump in_office }\ndelete chain in_office\n"},
		{"restriction comes", func(have, want *Table) {
			have.Sets[1].Elements, have.Chains = nil, have.Chains[1:]
		}, "add chain in_office\n--\nadd rule in_office tcp dport 22 accept\n--\nadd element restrict_in { 1 : jump in_office }\n"},
		{"what rules added stays", func(have, want *Table) {
			have.Sets[3].Elements = []Element{{Key: KeyOf(Number(TypeReqid, 9))}}
		}, "--\n--\n"},
		{"dormant table wakes", func(have, want *Table) { have.Flags = Dormant }, "--\nset flags of table xfrmfw to []\n--\n"},
		{"table goes", func(have, want *Table) { *want = Table{} }, "--\ndelete table xfrmfw\n--\n"},
		{"table comes", func(have, want *Table) {
			*have = Table{}
			want.Sets, want.Chains = want.Sets[:1], []Chain{{Name: "c", Rules: []Rule{{Terms: []Term{Verdict{Do: Drop}}}}}}
		}, `add table xfrmfw
add set c4_24_24
add chain c
--
add rule c drop
--
add element c4_24_24 { 1 . 10.1.0.0 . 10.2.0.0 counter packets 3 bytes 252 comment "t5c2f8345ac", 2 . 10.3.0.0 . 10.2.0.0 }
`},
		{"table that lost its owner gets another", func(have, want *Table) {
			have.Flags, want.Flags = Persist, Owner|Persist
		}, "--\nset flags of table xfrmfw to [owner,persist]\n--\n"},
		{"table gets an owner", func(have, want *Table) {
			want.Flags = Owner | Persist
			want.Sets, want.Chains = nil, nil
		}, "--\ndelete table xfrmfw\nadd table xfrmfw owner,persist\n--\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			have, want := sampleTable(), sampleTable()
			c.change(&have, &want)
			change := Diff(have, want)
			var got strings.Builder
			for i, stage := range [][]Op{change.Grow, change.Switch, change.Shrink} {
				if i > 0 {
					got.WriteString("--\n")
				}
				got.WriteString(Change{Grow: stage}.String())
			}
			if diff := cmp.Diff(strings.ReplaceAll(c.want, "delete map", "delete set"), got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A table that takes the elements of a change is the one that it was made for.
func TestTakeElements(t *testing.T) {
	element := func(n uint32, comment string) Element { return Element{Key: Key(AppendUint(nil, n)), Comment: comment} }
	set := func(name string, of ...Element) Set {
		return Set{Name: name, Key: []Field{F(InReqid)}, Elements: of}
	}
	have := Table{Name: "t", Sets: []Set{set("a", element(1, ""), element(3, "x"), element(5, "")), set("b")}}
	want := Table{Name: "t", Sets: []Set{set("a", element(2, "y"), element(3, "x"), element(6, "")), set("b", element(1, ""))}}
	got := Table{Name: "t", Sets: []Set{set("a", slices.Clone(have.Sets[0].Elements)...), set("b")}}
	got.TakeElements(Diff(have, want))
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	got.TakeElements(Change{Grow: []Op{AddElements{set("none"), []Element{element(1, "")}}}})
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("a set that is not there: %s", diff)
	}
	r := rand.New(rand.NewPCG(1, 18))
	some := func() Set {
		s := set("a")
		for n := range uint32(30) {
			if r.IntN(3) == 0 {
				s.Elements = append(s.Elements, element(n, ""))
			}
		}
		return s
	}
	for range 200 {
		have, want := Table{Name: "t", Sets: []Set{some()}}, Table{Name: "t", Sets: []Set{some()}}
		c := Diff(have, want)
		for _, op := range c.Ops() {
			switch op := op.(type) { // in any order
			case AddElements:
				r.Shuffle(len(op.Elements), func(i, j int) { op.Elements[i], op.Elements[j] = op.Elements[j], op.Elements[i] })
			case DeleteElements:
				r.Shuffle(len(op.Elements), func(i, j int) { op.Elements[i], op.Elements[j] = op.Elements[j], op.Elements[i] })
			}
		}
		have.TakeElements(c)
		have.TakeElements(c) // again: it has them
		if diff := cmp.Diff(want, have, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	}
}

// Rules are identical term by term, and equal also if one has a match that a later term
// implies.
func TestIdentical(t *testing.T) {
	fields := func(k ...FieldKind) (f []Field) {
		for _, k := range k {
			f = append(f, F(k))
		}
		return f
	}
	terms := []Term{
		EqualsNumber(NFProto, 2), EqualsNumber(NFProto, 10), Range{Field: F(SrcPort), High: Number(TypePort, 9)},
		OneOf{Field: F(L4Proto), Values: []Value{Number(TypeProto, 6), Number(TypeProto, 17)}}, OneOf{Field: F(L4Proto), Values: []Value{Number(TypeProto, 6), Number(TypeProto, 1)}},
		In{Fields: fields(Src4, Dst4), Set: "a"}, In{Fields: fields(Src4), Set: "a"}, In{Fields: fields(Src4, Dst4), Set: "b"}, In{Fields: fields(Src4, Dst4), Set: "a", Not: true},
		Dispatch{Fields: fields(InReqid), Map: "a"}, Dispatch{Fields: fields(InSPI), Map: "a"},
		Update{Fields: fields(InReqid), Set: "a"}, Update{Fields: fields(InReqid), Set: "a", Add: true}, Update{Fields: fields(InReqid), Set: "a", Timeout: 1},
		SetMark{Value: 1, Mask: 1}, Counter{}, Reject{With: TCPReset}, SNAT{To: F(Src4)}, Verdict{Do: Drop}, Verdict{Do: Jump, Chain: "a"},
	}
	for i, a := range terms {
		for j, b := range terms {
			if got := (Rule{Terms: []Term{a}}).Identical(Rule{Terms: []Term{b}, Handle: 7}); got != (i == j) {
				t.Errorf("%s and %s: %t", a, b, got)
			}
		}
	}
	source := EqualsNumber(Src4, 1)
	short, long := Rule{Terms: []Term{source}}, Rule{Terms: []Term{EqualsNumber(NFProto, 2), source}}
	if short.Identical(long) || !short.Equal(long) {
		t.Error("an implied match makes two rules differ")
	}
	if short.Identical(Rule{Terms: []Term{source}, Comment: "a"}) {
		t.Error("a comment makes no difference")
	}
}
