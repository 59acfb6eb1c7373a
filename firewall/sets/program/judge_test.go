package program

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Judge and the table drop the same random packets of random gateways, and the table
// verifies those that came out of a tunnel.
func TestTableDropsWhatJudgeDrops(t *testing.T) {
	seeds, packets := uint64(50), 400
	if testing.Short() {
		seeds = 10
	}
	verdicts, known, differences := make(map[string]int), make(map[string]int), make(map[string]int)
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 77))
		in := fake.Gateway(r)
		f := decide.Facts(in)
		e := newEvaluator(Table(&f, Options{}))
		maker := fake.NewPassages(r, in, &f)
		for range packets {
			p := maker.Next()
			want := firewall.Judge(&f, p)
			got, verified, trail := e.walk(&f, p)
			drops := want.Action == firewall.Discard || want.Action == firewall.Refuse
			verdicts[want.Action.String()+" "+want.Case.String()]++
			key := ""
			switch {
			case drops != (got == dropped || got == refused):
				key = fmt.Sprintf("table %d, Judge %v %v", got, want.Action, want.Case)
			case !drops && cameOut(want.Case) && p.Way != firewall.FromHost && !verified:
				key = fmt.Sprintf("not verified, Judge %v %v", want.Action, want.Case)
			case !drops && !cameOut(want.Case) && p.Way == firewall.ToHost && verified:
				key = fmt.Sprintf("verified, Judge %v %v", want.Action, want.Case)
			default:
				continue
			}
			if reason := explained(&f, p, got, want, trail); reason != "" {
				known[reason]++
				continue
			}
			if differences[key]++; differences[key] == 1 {
				t.Errorf("seed %d: %s: %+v\n%s", seed, key, p, strings.Join(trail, "\n"))
			}
		}
	}
	for _, m := range []map[string]int{verdicts, known, differences} {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			t.Logf("%7d %s", m[key], key)
		}
	}
}

// cameOut reports whether a case is that of a packet out of a tunnel.
func cameOut(c firewall.Case) bool {
	return slices.Contains([]firewall.Case{firewall.Case1, firewall.Case1b, firewall.Case1c, firewall.Case2, firewall.Case3, firewall.Case4}, c)
}

// explained returns the reason for a difference that is meant, or that no real
// packet shows.
func explained(f *firewall.Facts, p firewall.Passage, got outcome, want firewall.Verdict, trail []string) string {
	hit := func(chain string) bool {
		return slices.ContainsFunc(trail, func(s string) bool { return strings.HasPrefix(s, chain) })
	}
	isError := (&ipv4).has(p.Received.Src) && slices.Contains(ipv4.errors, uint64(p.ICMPType)) ||
		(&ipv6).has(p.Received.Src) && slices.Contains(ipv6.errors, uint64(p.ICMPType))
	rewritten := p.Flow.SNAT || p.Flow.DNAT
	switch {
	case got == dropped && hit("early") && p.Received != p.AfterDNAT:
		return "a forged packet is told before DNAT takes its destination away"
	case (got == dropped || got == refused) && (hit("restrict_") || hit("forward_: iifname")) && !liesWithin(f, p):
		return "a packet goes into an SA, or came out of one, only within its selectors"
	case p.Flow.Related && !isError:
		return "conntrack calls no ICMP message related that is not an error"
	case want.Case == firewall.Case8b && len(p.AheadSent) > 0:
		return "behind SNAT the packet's own route tells whether it leaves in clear"
	case got == dropped && slices.ContainsFunc(trail, func(s string) bool { return strings.Contains(s, "a stranger, behind NAT") }):
		return "a stranger whom NAT maps into a tunnel is told behind it"
	case want.Case == firewall.Case6b && rewritten, got == dropped && hit("mapped"):
		return "where a source lives follows from the routes"
	case want.Case == firewall.Case2 && (hit("pol4: ipsec in") || hit("pol6: ipsec in")) && slices.ContainsFunc(trail, func(s string) bool { return strings.Contains(s, "@bare") }):
		return "a packet that must carry no bit is not verified"
	}
	return ""
}

// liesWithin reports whether the packet lies in a claim of each SA that it came out of
// or goes into.
func liesWithin(f *firewall.Facts, p firewall.Passage) bool {
	inside := func(sa xfrm.Transform, of func(c *firewall.Claim) bool) bool {
		return slices.ContainsFunc(f.Claims, func(c firewall.Claim) bool {
			peer := c.In.Src
			return c.In.Reqid == sa.Reqid && (!peer.IsValid() || peer == sa.Src || peer == sa.Dst) && of(&c)
		})
	}
	for _, sa := range p.Path {
		if !inside(sa, func(c *firewall.Claim) bool {
			return c.Pair.Remote.Contains(p.Received.Src) && c.Pair.Local.Contains(p.Received.Dst)
		}) {
			return false
		}
	}
	for _, sa := range p.Ahead {
		if !inside(sa, func(c *firewall.Claim) bool {
			return c.Pair.Remote.Contains(p.AfterDNAT.Dst) && c.Pair.Local.Contains(p.AfterDNAT.Src)
		}) {
			return false
		}
	}
	return true
}

// Packets that were once judged wrongly fare by the table as they have to.
func TestFaults(t *testing.T) {
	for _, fault := range fake.Faults() {
		f := decide.Facts(fault.Input)
		got, verified, trail := newEvaluator(Table(&f, Options{})).walk(&f, fault.Passage)
		drops := fault.Want.Action == firewall.Discard || fault.Want.Action == firewall.Refuse
		if drops != (got == dropped || got == refused) {
			t.Errorf("%s: outcome %d, want %v %v\n%s", fault.Name, got, fault.Want.Action, fault.Want.Case, strings.Join(trail, "\n"))
		}
		marked := fault.Want.Case != firewall.Case2 // no bit may be on its packets
		if !drops && marked && fault.Passage.Way == firewall.ToHost && verified != cameOut(fault.Want.Case) {
			t.Errorf("%s: verified is %v\n%s", fault.Name, verified, strings.Join(trail, "\n"))
		}
	}
}

// A rule of another program that clears our bits behind pre changes no verdict on a packet
// out of an SA, and takes VERIFIED from none: the SA tells again.
func TestWipedMarks(t *testing.T) {
	verdicts := make(map[string]int)
	same := func(name string, e *evaluator, f *firewall.Facts, p firewall.Passage) {
		if len(p.Path) == 0 || p.Way == firewall.FromHost {
			return
		}
		e.wiped = 0
		want, verified, _ := e.walk(f, p)
		e.wiped = f.Marks.Both()
		got, again, trail := e.walk(f, p)
		verdicts[fmt.Sprint(want, verified)]++
		if got != want || again != verified {
			t.Errorf("%s: outcome %d and verified %v, want %d and %v: %+v\n%s", name, got, again, want, verified, p, strings.Join(trail, "\n"))
		}
	}
	for _, fault := range fake.Faults() {
		f := decide.Facts(fault.Input)
		same(fault.Name, newEvaluator(Table(&f, Options{})), &f, fault.Passage)
	}
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 78))
		in := fake.Gateway(r)
		f := decide.Facts(in)
		e, maker := newEvaluator(Table(&f, Options{})), fake.NewPassages(r, in, &f)
		for range 200 {
			same(fmt.Sprint("seed ", seed), e, &f, maker.Next())
		}
		for _, c := range f.Claims {
			same(fmt.Sprint("seed ", seed), e, &f, maker.OutOf(c))
		}
	}
	if t.Log(verdicts); verdicts[fmt.Sprint(goOn, true)] < 50 || verdicts[fmt.Sprint(dropped, false)] < 50 {
		t.Error("too few packets are verified or dropped")
	}
}
