package sets

import (
	"strings"
	"testing"
	"time"
)

func TestTablesThatTheKernelWouldRefuse(t *testing.T) {
	rule := func(terms ...Term) func(*Table) {
		return func(t *Table) { t.Chains[0].Rules[0].Terms = terms }
	}
	for _, c := range []struct {
		name  string
		spoil func(*Table)
		want  string
	}{
		{"name with a space", func(t *Table) { t.Name = "a b" }, `name "a b"`},
		{"no name", func(t *Table) { t.Name = "" }, `name ""`},
		{"two chains of a name", func(t *Table) { t.Chains[1].Name = t.Chains[0].Name }, "two of the name"},
		{"two sets of a name", func(t *Table) { t.Sets[1].Name = t.Sets[0].Name }, "two of the name"},
		{"comment that ends its quotes", func(t *Table) { t.Chains[0].Rules[0].Comment = `a" drop` }, "without quotes"},
		{"comment with a line end", func(t *Table) { t.Sets[0].Elements[0].Comment = "a\nb" }, "without quotes"},
		{"long comment", func(t *Table) { t.Chains[0].Comment = strings.Repeat("x", 128) }, "longer than 127"},
		{"log prefix that ends its quotes", rule(Log{Prefix: `a"`}), "without quotes"},
		{"unknown field", rule(Exists(numFieldKinds)), "unknown field"},
		{"depth of an address", rule(Match{Field: F(Src4).At(1), Value: addr("10.0.0.1")}), "no depth"},
		{"prefix of a port", rule(Match{Field: Field{Kind: SrcPort, Clear: 1}, Value: Number(TypePort, 2)}), "no address"},
		{"value of another size", rule(Equals(Src4, addr("::1"))), "want 4 bytes"},
		{"value beyond its prefix", rule(Match{Field: F(Src4).Masked(24), Value: addr("10.0.0.1")}), "clears"},
		{"interface name with a quote", rule(Equals(InName, Name(`a"`))), "without quotes"},
		{"interface without a name", rule(Equals(InName, Name(""))), "empty name"},
		{"mask beyond the field", rule(Match{Field: F(TCPFlags), Mask: 0x100, Value: Number(TypeTCPFlags, 0)}), "no bits"},
		{"size of a mark", rule(Match{Field: F(Mark), Op: Gt, Value: Number(TypeMark, 1)}), "by size"},
		{"range of reqids", rule(Range{Field: F(InReqid), Low: Number(TypeReqid, 1), High: Number(TypeReqid, 2)}), "with a range"},
		{"no values", rule(OneOf{Field: F(SrcPort)}), "no values"},
		{"a value twice", rule(OneOf{Field: F(SrcPort), Values: []Value{Number(TypePort, 1), Number(TypePort, 1)}}), "twice"},
		{"set that is not there", rule(In{Fields: []Field{F(InReqid)}, Set: "nothing"}), "not a set"},
		{"set of other types", rule(In{Fields: []Field{F(InReqid), F(Src4)}, Set: "c4_24_24"}), "not of the types"},
		{"map in place of a set", rule(In{Fields: []Field{F(InReqid)}, Set: "restrict_in"}), "not a set"},
		{"set in place of a map", rule(Dispatch{Fields: []Field{F(InReqid)}, Map: "untagged"}), "not a map"},
		{"update of a set that is not dynamic", rule(Update{Fields: []Field{F(Src4), F(Proto4), F(DstPort)}, Set: "services"}), "not a dynamic set"},
		{"jump to a base chain", rule(Verdict{Jump, "pre"}), "not a regular chain"},
		{"jump to nowhere", rule(Verdict{Jump, "nowhere"}), "not a regular chain"},
		{"drop with a chain", rule(Verdict{Drop, "in_office"}), "jump and goto alone"},
		{"term behind a verdict", rule(Verdict{Do: Drop}, Counter{}), "more terms follow"},
		{"no verdict", rule(Verdict{}), "a verdict is missing"},
		{"no term", rule(nil), "a term is missing"},
		{"unknown expression", rule(Unknown{"numgen"}), "can't be written"},
		{"mark outside its mask", rule(SetMark{Value: 3, Mask: 1}), "outside of mask"},
		{"limit without unit", rule(Limit{Rate: 1, Burst: 1, Per: time.Millisecond}), "second, minute"},
		{"translation to a port", rule(SNAT{To: F(SrcPort)}), "no address"},
		{"key of nothing", func(t *Table) { t.Sets[0].Key = nil }, "a key of 0 fields"},
		{"key of 68 bytes", func(t *Table) { t.Sets[0].Key = []Field{F(Src6), F(Dst6), F(InName), F(OutName), F(Mark)} }, "at most 64"},
		{"masked key", func(t *Table) { t.Sets[0].Key[1] = F(Src4).Masked(24) }, "whole values"},
		{"dynamic intervals", func(t *Table) { t.Sets[2].Dynamic = true }, "can't add intervals"},
		{"short key", func(t *Table) { t.Sets[0].Elements[0].Key = "abc" }, "want a key of 12 bytes"},
		{"range in a hash set", func(t *Table) { t.Sets[0].Elements[0].Last = t.Sets[0].Elements[0].Key }, "in a set of intervals alone"},
		{"no range in a set of intervals", func(t *Table) { t.Sets[2].Elements[0].Last = "" }, "in a set of intervals alone"},
		{"range backwards", func(t *Table) {
			e := &t.Sets[2].Elements[0]
			e.Key, e.Last = e.Last, e.Key
		}, "before it begins"},
		{"element twice", func(t *Table) { t.Sets[0].Elements[1] = t.Sets[0].Elements[0] }, "twice or out of order"},
		{"map without a verdict", func(t *Table) { t.Sets[1].Elements[0].Verdict = Verdict{} }, "in a map alone"},
		{"map to a base chain", func(t *Table) { t.Sets[1].Elements[0].Verdict.Chain = "pre" }, "not a regular chain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := sampleTable()
			c.spoil(&table)
			err := table.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}
