package program

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// Beside the iptables engine the table drops behind SNAT the packets that the whole table
// drops there, and judges nothing that comes in.
func TestCompanion(t *testing.T) {
	leaks := 0
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 99))
		in := fake.Gateway(r)
		f := decide.Facts(in)
		whole, part := Table(&f, Options{}), Companion(&f)
		if err := part.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var bases []string
		for _, c := range part.Chains {
			if c.Base.Type != sets.Regular {
				bases = append(bases, c.Name)
			}
		}
		if !slices.Equal(bases, []string{"nat", "post"}) {
			t.Fatalf("seed %d: base chains %v", seed, bases)
		}
		for _, s := range part.Sets {
			if strings.HasPrefix(s.Name, "c4_") || s.Name == "known" {
				t.Errorf("seed %d: set %s is of the iptables engine's part", seed, s.Name)
			}
		}
		a, b := newEvaluator(whole), newEvaluator(part)
		maker := fake.NewPassages(r, in, &f)
		for range 200 {
			p := maker.Next()
			if p.Way != firewall.Through {
				continue
			}
			want, _, _ := a.walk(&f, p)
			got, _, trail := b.walk(&f, p)
			// forward_ of the whole table marks packets that were to be encrypted before
			// NAT; beside the iptables engine NAT of a stranger alone decides.
			stranger := slices.ContainsFunc(trail, func(s string) bool { return strings.Contains(s, "a stranger, behind NAT") })
			switch {
			case got == dropped && want == goOn && !stranger:
				t.Fatalf("seed %d: dropped by the companion alone: %+v\n%s", seed, p, strings.Join(trail, "\n"))
			case got == dropped:
				leaks++
			}
		}
	}
	if leaks < 50 {
		t.Errorf("only %d packets were dropped", leaks)
	}
}
