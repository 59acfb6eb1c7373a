package space

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The vector of a packet is the packet again.
func TestPacketsAreVectors(t *testing.T) {
	in := fake.Gateway(rand.New(rand.NewPCG(1, 4242)))
	facts := decide.Facts(in)
	maker := fake.NewPassages(rand.New(rand.NewPCG(1, 7)), in, &facts)
	for range 300 {
		p := maker.Next()
		s := New(xfrm.FamilyOf(p.Received.Src), &facts, Values{Names: fake.Links(in.Host)}, false)
		v := s.vector(p)
		if again := s.vector(s.packet(p.Way, v)); fmt.Sprint(again) != fmt.Sprint(v) {
			t.Fatalf("%+v became %+v", p, s.packet(p.Way, v))
		}
	}
}
