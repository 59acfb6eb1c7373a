package nftables

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/test/lab"
)

// The benchmarks with many tunnels are run by root, because a user namespace takes
// no long batch:
//
//	XFRMFW_TEST_AS_ROOT=1 go test ./firewall/nftables -run '^$' -bench .

// tunnels is a table with the six elements that each of n tunnels has.
func tunnels(n int) sets.Table {
	key := fields(sets.InReqid, sets.Src4)
	t := sets.Table{Name: testTable, Sets: []sets.Set{
		{Name: "c4_24_24", Key: fields(sets.InReqid, sets.Src4, sets.Dst4), Counter: true, Opens: true},
		{Name: "g4_0_24_24", Key: fields(sets.Src4, sets.Dst4)},
		{Name: "known", Key: fields(sets.InReqid), Opens: true},
		{Name: "own4_24", Key: key},
		{Name: "owned4_24", Key: fields(sets.Src4)},
		{Name: "rem4_24", Key: fields(sets.Src4)},
	}}
	for i := range n {
		for j, e := range tunnelElements(i) {
			t.Sets[j].Elements = append(t.Sets[j].Elements, e)
		}
	}
	t.Chains = []sets.Chain{{Name: "post", Base: sets.Base{Type: sets.Filter, Hook: sets.Postrouting, Priority: 290}, Rules: []sets.Rule{
		rule(sets.In{Fields: []sets.Field{sets.F(sets.Dst4).Masked(24), sets.F(sets.Src4).Masked(24)}, Set: "g4_0_24_24"}, sets.Verdict{Do: sets.Drop}),
	}}}
	return t
}

func tunnelElements(i int) []sets.Element {
	remote := sets.AppendUint(nil, 10<<24|uint32(i)<<8)
	reqid := sets.AppendUint(nil, uint32(i+1))
	local := []byte{192, 168, 2, 0}
	of := func(parts ...[]byte) sets.Element { return sets.Element{Key: sets.Key(slices.Concat(parts...))} }
	claim := of(reqid, remote, local)
	claim.Comment = "t0123456789"
	return []sets.Element{claim, of(remote, local), of(reqid), of(reqid, remote), of(remote), of(remote)}
}

// BenchmarkOneTunnel measures the transaction by which one tunnel of many comes,
// or goes, from the operations to the kernel's answer.
func BenchmarkOneTunnel(b *testing.B) {
	for _, n := range []int{10, 1_000, 10_000, 50_000} {
		b.Run(fmt.Sprintf("of=%d", n), func(b *testing.B) {
			c := open(b)
			want := tunnels(n)
			s := read(b, c)
			generation, err := c.Apply(s, sets.Diff(s.Table, want), want)
			if err != nil {
				b.Fatal(err)
			}
			one := tunnelElements(n + 7)
			var up, down sets.Change
			up.Table, down.Table = testTable, testTable
			for i, e := range one {
				definition := want.Sets[i]
				definition.Elements = nil
				up.Grow = append(up.Grow, sets.AddElements{Set: definition, Elements: []sets.Element{e}})
				down.Grow = append(down.Grow, sets.DeleteElements{Set: definition, Elements: []sets.Element{e}})
			}
			for b.Loop() {
				for _, change := range []sets.Change{up, down} {
					if generation, err = c.Apply(State{Table: s.Table, Generation: generation}, change, sets.Table{}); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2, "ns/change")
		})
	}
}

// BenchmarkCounters measures the time to read the tunnels' counters.
func BenchmarkCounters(b *testing.B) {
	for _, n := range []int{10, 1_000, 10_000} {
		b.Run(fmt.Sprintf("of=%d", n), func(b *testing.B) {
			c := open(b)
			want := tunnels(n)
			apply(b, c, want)
			for b.Loop() {
				if _, err := c.Elements(testTable, want.Sets[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoad compares the first load of 10,000 tunnels with iptables-restore of
// one rule for each.
func BenchmarkLoad(b *testing.B) {
	const n = 10_000
	b.Run("tunnels=10000", func(b *testing.B) {
		c := open(b)
		want := tunnels(n)
		for b.Loop() {
			s := read(b, c)
			if _, err := c.Apply(s, sets.Diff(s.Table, want), want); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			apply(b, c, sets.Table{})
			b.StartTimer()
		}
	})
	b.Run("restore=10000", func(b *testing.B) {
		open(b)
		program, err := exec.LookPath("iptables-nft-restore")
		if err != nil {
			lab.Lacking(b, "iptables", err.Error())
		}
		var text strings.Builder
		text.WriteString("*mangle\n")
		for i := range n {
			fmt.Fprintf(&text, "-A FORWARD -s 10.%d.%d.0/24 -d 192.168.2.0/24 -m policy --dir in --pol ipsec --reqid %d -j ACCEPT\n", i>>8, i&255, i+1)
		}
		text.WriteString("COMMIT\n")
		for b.Loop() {
			cmd := exec.Command(program)
			cmd.Stdin = strings.NewReader(text.String())
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			b.StopTimer()
			if out, err := exec.Command("iptables-nft", "-t", "mangle", "-F").CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			b.StartTimer()
		}
	})
}
