package nftables

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// randomTable takes a random part of everything, so that any two differ in
// elements, rules, chains and definitions of sets.
func randomTable(r *rand.Rand) sets.Table {
	t := everything()
	for i := range t.Sets {
		s := &t.Sets[i]
		s.Elements = slices.DeleteFunc(slices.Clone(s.Elements), func(sets.Element) bool { return r.IntN(3) == 0 })
		for j := range s.Elements {
			if r.IntN(4) == 0 {
				s.Elements[j].Comment = "changed"
			}
		}
		if s.Name != "home" && r.IntN(8) == 0 { // a tree over one field has no size
			s.Size = 50
		}
		s.Opens = r.IntN(2) == 0
	}
	if r.IntN(3) == 0 { // the kernel can't have a rule or a map lead to nowhere
		t.Chains[slices.IndexFunc(t.Chains, func(c sets.Chain) bool { return c.Name == "services" })].Comment = "changed"
	}
	for i := range t.Chains {
		c := &t.Chains[i]
		c.Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(sets.Rule) bool { return r.IntN(4) == 0 })
		if r.IntN(4) == 0 {
			r.Shuffle(len(c.Rules), func(a, b int) { c.Rules[a], c.Rules[b] = c.Rules[b], c.Rules[a] })
		}
		if c.Base.Type == sets.Filter && r.IntN(6) == 0 {
			c.Base.Priority++
		}
	}
	t.Chains = slices.DeleteFunc(t.Chains, func(c sets.Chain) bool { return c.Base.Type != sets.Regular && r.IntN(5) == 0 })
	return t
}

func TestAnyTableBecomesAnyOther(t *testing.T) {
	c := open(t)
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 1))
		want := randomTable(r)
		if err := want.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		s := read(t, c)
		change := sets.Diff(s.Table, want)
		if _, err := c.Apply(s, change, want); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, change)
		}
		got := read(t, c)
		if diff := cmp.Diff(withoutCounts(bare(want)), withoutCounts(bare(got.Table))); diff != "" {
			t.Fatalf("seed %d: wanted -, read +:\n%s\n%s", seed, diff, change)
		}
	}
}

// withoutCounts leaves out counts, which stay with the rules that stay.
func withoutCounts(t sets.Table) sets.Table {
	for i := range t.Chains {
		for j := range t.Chains[i].Rules {
			t.Chains[i].Rules[j].Count = sets.Count{}
		}
		if len(t.Chains[i].Rules) == 0 {
			t.Chains[i].Rules = nil
		}
	}
	for i := range t.Sets {
		for j := range t.Sets[i].Elements {
			t.Sets[i].Elements[j].Count = sets.Count{}
		}
		if len(t.Sets[i].Elements) == 0 {
			t.Sets[i].Elements = nil
		}
	}
	return t
}

func TestChangeOfAnOlderGenerationIsRefused(t *testing.T) {
	c := open(t)
	old := apply(t, c, everything())
	nft(t, "", "add", "table", "inet", "others")
	defer nft(t, "", "delete", "table", "inet", "others")
	want := everything()
	want.Sets[0].Elements = want.Sets[0].Elements[:1]
	_, err := c.Apply(old, sets.Diff(old.Table, want), want)
	if !errors.Is(err, ErrStale) {
		t.Fatalf("got %v, want ErrStale", err)
	}
	if diff := cmp.Diff(bare(old.Table), bare(read(t, c).Table)); diff != "" {
		t.Errorf("something changed:\n%s", diff)
	}
	apply(t, c, want)
}

func TestErrorNamesWhatTheKernelRefuses(t *testing.T) {
	c := open(t)
	s := apply(t, c, everything())
	known, _ := s.Table.Set("known")
	element := func(n uint64) sets.Element {
		return sets.Element{Key: sets.KeyOf(sets.Number(sets.TypeReqid, n))}
	}
	for _, tc := range []struct {
		name string
		op   sets.Op
		want string
		is   error
	}{
		{"element that is not there", sets.DeleteElements{Set: known, Elements: []sets.Element{element(1), element(77), element(256)}},
			"delete element known { 77 }: no such file or directory", unix.ENOENT},
		{"element that is there", sets.AddElements{Set: known, Elements: []sets.Element{element(5), element(6), element(1)}},
			"add element known { 1 }: file exists", unix.EEXIST},
		{"chain that is there", sets.AddChain{Chain: sets.Chain{Name: "services"}}, "add chain services: file exists", unix.EEXIST},
		{"chain that is used", sets.DeleteChain{Name: "services"}, "delete chain services: device or resource busy", unix.EBUSY},
		{"rule into nothing", sets.AddRule{Chain: "nothing", Rule: rule(back)}, "add rule nothing return: no such file or directory", unix.ENOENT},
		{"set that is used", sets.DeleteSet{Name: "claims"}, "delete set claims: device or resource busy", unix.EBUSY},
		{"rule out of place", sets.AddRule{Chain: "pre", Rule: rule(sets.SNAT{To: sets.F(sets.Src4)})}, "add rule pre snat ip to ip saddr: operation not supported", unix.EOPNOTSUPP},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := read(t, c)
			_, err := c.Apply(s, sets.Change{Table: testTable, Switch: []sets.Op{
				sets.AddElements{Set: known, Elements: []sets.Element{element(99)}}, tc.op,
			}}, s.Table)
			if err == nil || !strings.HasPrefix(err.Error(), "change table xfrmfw: "+tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if diff := cmp.Diff(s.Table, read(t, c).Table); diff != "" {
				t.Errorf("something changed:\n%s", diff)
			}
		})
	}
}

// Keys of hash sets are in the byte order of the machine, those of intervals in
// the network's. A key in the wrong order would be another reqid to nft.
func TestReqidsInTheOrderOfNft(t *testing.T) {
	c := open(t)
	want := sets.Table{Name: testTable}
	for _, interval := range []bool{false, true} {
		s := sets.Set{Name: fmt.Sprintf("of_%t", interval), Key: fields(sets.InReqid, sets.Src4), Interval: interval}
		for _, n := range []uint64{1, 256, 0x01020304} {
			e := sets.Element{Key: sets.KeyOf(sets.Number(sets.TypeReqid, n), addrValue("10.0.0.1"))}
			if interval {
				e.Last = e.Key
			}
			s.Elements = append(s.Elements, e)
		}
		want.Sets = append(want.Sets, s)
	}
	want.Sort()
	s := apply(t, c, want)
	// nft 1.0.6 can't delete an element from a set of intervals that it added itself,
	// because it looks a reqid up in the byte order of the machine.
	for _, reqid := range []string{"1", "256", "16909060"} {
		nft(t, "", "delete", "element", "inet", testTable, "of_false", "{ "+reqid+" . 10.0.0.1 }")
	}
	nft(t, "", "flush", "set", "inet", testTable, "of_true")
	if got := read(t, c).Table; len(got.Sets[0].Elements)+len(got.Sets[1].Elements) != 0 {
		t.Fatalf("left:\n%s", got)
	}
	for _, name := range []string{"of_false", "of_true"} {
		for _, reqid := range []string{"1", "256", "16909060"} {
			nft(t, "", "add", "element", "inet", testTable, name, "{ "+reqid+" . 10.0.0.1 }")
		}
	}
	if diff := cmp.Diff(s.Table, read(t, c).Table); diff != "" {
		t.Errorf("ours -, nft's +:\n%s", diff)
	}
}

func TestForeignRuleIsFoundAndTakenAway(t *testing.T) {
	c := open(t)
	want := everything()
	apply(t, c, want)
	nft(t, "", "insert", "rule", "inet", testTable, "pre", "meta", "mark", "set", "numgen", "random", "mod", "2")
	nft(t, "", "add", "rule", "inet", testTable, "services", "tcp", "dport", "23", "accept")
	nft(t, "", "add", "chain", "inet", testTable, "foreign", "{ type filter hook input priority 7 ; }")
	nft(t, "", "add", "set", "inet", testTable, "foreign", "{ type ipv4_addr . uid ; }")
	s := read(t, c)
	change := sets.Diff(s.Table, want)
	if len(change.Ops()) != 5 { // the chain is flushed first
		t.Errorf("got\n%s", change)
	}
	got := apply(t, c, want)
	if diff := cmp.Diff(bare(want), bare(got.Table)); diff != "" {
		t.Error(diff)
	}
}

func TestDormantTableWakes(t *testing.T) {
	c := open(t)
	want := everything()
	apply(t, c, want)
	nft(t, "table inet "+testTable+" { flags dormant; }", "-f", "-")
	if s := read(t, c); s.Table.Flags != sets.Dormant {
		t.Fatalf("flags %v", s.Table.Flags)
	}
	if s := apply(t, c, want); s.Table.Flags != 0 {
		t.Errorf("flags %v", s.Table.Flags)
	}
}

// crowd is a table with many elements in a set that opens and one that closes.
func crowd(n int) sets.Table {
	t := sets.Table{Name: testTable, Sets: []sets.Set{
		{Name: "claims", Key: fields(sets.InReqid, sets.Src4, sets.Dst4), Counter: true, Opens: true},
		{Name: "guards", Key: fields(sets.Src4, sets.Dst4)},
	}}
	for i := range n {
		remote := sets.AppendUint(nil, 10<<24|uint32(i)<<8)
		pair := sets.Key(append(remote, 10, 2, 0, 0))
		t.Sets[1].Elements = append(t.Sets[1].Elements, sets.Element{Key: pair})
		t.Sets[0].Elements = append(t.Sets[0].Elements, sets.Element{Key: sets.Key(sets.AppendUint(nil, uint32(i+1))) + pair, Comment: "t0123456789"})
	}
	t.Chains = []sets.Chain{{Name: "post", Base: sets.Base{Type: sets.Filter, Hook: sets.Postrouting, Priority: 290}, Rules: []sets.Rule{
		rule(sets.In{Fields: fields(sets.Dst4, sets.Src4), Set: "guards"}, sets.Verdict{Do: sets.Drop}),
	}}}
	return t
}

// In a user namespace the kernel takes no batch of this length.
func TestLongChangeTakesSeveralTransactions(t *testing.T) {
	c := open(t)
	before, err := c.Generation()
	if err != nil {
		t.Fatal(err)
	}
	want := crowd(20_000)
	s := apply(t, c, want)
	if diff := cmp.Diff(bare(want), bare(s.Table)); diff != "" {
		t.Fatal("not read back as it was written")
	}
	t.Logf("%d transactions", s.Generation-before)
	less := crowd(3)
	s = apply(t, c, less)
	if diff := cmp.Diff(bare(less), bare(s.Table)); diff != "" {
		t.Error(diff)
	}
}

func TestElementsAlone(t *testing.T) {
	c := open(t)
	s := apply(t, c, everything())
	claims, _ := s.Table.Set("claims")
	got, err := c.Elements(testTable, sets.Set{Name: claims.Name, Key: claims.Key, Counter: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(claims.Elements, got); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Elements(testTable, sets.Set{Name: "nothing", Key: claims.Key}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}
