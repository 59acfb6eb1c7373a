package program

import (
	"time"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// drops ends the cases, each in a chain of its own, where it is counted.
func (b *builder) drops() {
	for _, d := range []struct{ name, comment string }{
		{"spoof", "case 6"}, {"inject", "case 6b"}, {"crossed", "case 7"}, {"leak", "case 8"},
	} {
		b.chain("drop_"+d.name, d.comment, append(b.logged(d.name), rule(d.comment, sets.Counter{}, sets.Verdict{Do: sets.Drop}))...)
	}
	if b.f.Enforce {
		b.chain("drop_unconfirmed", "case 3", append(b.logged("unconfirmed"), rule("case 3", sets.Counter{}, sets.Verdict{Do: sets.Drop}))...)
	}
	b.chain("drop_refuse", "case 8: the sender is told", append(b.logged("leak"),
		rule("case 8", sets.Counter{}, sets.Reject{With: sets.AdminProhibited}))...)
	b.chain("stray", "case 5", rule("case 5", sets.Counter{}, b.clearBits(b.f.Marks.Both())))
	b.chain("unverify", "case 5", rule("case 5", sets.Counter{}, b.clearBits(b.verified())))
}

// logged writes about a drop, at a bounded rate.
func (b *builder) logged(word string) []sets.Rule {
	l := b.f.Log
	if l.PerSecond == 0 {
		return nil
	}
	return []sets.Rule{{Terms: []sets.Term{
		sets.Limit{Rate: uint64(l.PerSecond), Per: time.Second, Burst: uint32(l.PerSecond)},
		sets.Log{Prefix: logPrefix(word, l.Kernel), ToGroup: !l.Kernel, Group: l.Group},
	}}}
}

// logPrefix is the prefix that the iptables engine writes too. The kernel's log
// gives it 29 bytes there, a group 64.
func logPrefix(word string, kernel bool) string {
	most := 64
	if kernel {
		most = 29
	}
	prefix := "xfrmfw:" + word + ":"
	if len(prefix) > most {
		prefix = prefix[:most-1] + ":"
	}
	return prefix
}
