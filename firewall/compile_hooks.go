package firewall

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// mangle lays out the classification. It stands in PREROUTING, where packets surely
// have their security path and no other program's rule has run. Tags are set in
// INPUT, because transit ESP never comes there.
func (l *layout) mangle() {
	m := l.Marks
	pre := []Rule{{In: "lo", Target: Target{Verb: Return}, Purpose: PurposeExempt}}
	pre = append(pre, l.overlayRules()...)
	pre = append(pre,
		Rule{Policy: PolicyMatch{Dir: PolicyIn}, Target: Target{Verb: Goto, Chain: chainPol}, Purpose: PurposeDispatch},
		Rule{Mark: MarkMatch{Mask: m.Both(), Not: true}, Target: Target{Verb: Jump, Chain: chainStray}, Purpose: PurposeDispatch},
		Rule{
			Proto: l.icmp(), Ct: CtMatch{State: CtRelated},
			Target: Target{Verb: Jump, Chain: chainQuoted}, Purpose: PurposeDispatch,
		},
	)
	pre = append(pre, prefilter(l.within, ByDestination, Rule{Target: Target{Verb: Goto, Chain: chainInject}})...)
	l.chain(Mangle, chainPre, pre...)
	l.hook(Mangle, "PREROUTING", chainPre)
	l.chain(Mangle, chainStray, Rule{Target: setMark(0, m.Both()), Purpose: PurposeStray, Case: Case5})

	// The guards skip decrypted packets.
	inClear := PolicyMatch{Dir: PolicyIn, None: true}
	in := []Rule{{In: "lo", Target: Target{Verb: Return}, Purpose: PurposeExempt}}
	in = append(in, l.tagDispatch()...)
	in = append(in, l.recheck(true)...)
	in = append(in, prefilter(l.within, BySource, Rule{Policy: inClear, Target: Target{Verb: Goto, Chain: chainArriving}})...)
	l.chain(Mangle, chainIn, in...)
	l.hook(Mangle, "INPUT", chainIn)

	fwd := append(l.recheck(false), injectAfterDNAT())
	fwd = append(fwd, prefilter(l.within, BySource, Rule{Policy: inClear, Target: Target{Verb: Goto, Chain: chainSpoof}})...)
	l.chain(Mangle, chainFwd, fwd...)
	l.hook(Mangle, "FORWARD", chainFwd)

	l.tagging()
	l.classification()
	l.unconfirmed()
	l.mss()
	l.spoof()
	l.inject()
	l.mapped()
	l.quoted()
	l.leaving()
	l.drops()
}

// leaving lays out POSTROUTING, which all packets pass as they leave, after DNAT and
// with the real outgoing interface.
func (l *layout) leaving() {
	leaving := slices.Clone(l.within)
	for _, c := range l.claims {
		if c.MSS != 0 {
			leaving = append(leaving, c.Pair.Remote)
		}
	}
	leaving = coverPrefixes(leaving, maxPrefilter)
	l.chain(Mangle, chainLeaving, l.postrouting(leaving)...)
	l.chain(Mangle, chainPost, prefilter(leaving, ByDestination, Rule{Target: Target{Verb: Goto, Chain: chainLeaving}})...)
	l.hook(Mangle, "POSTROUTING", chainPost)
	l.leak()
	l.errors()
}

func (l *layout) postrouting(leaving []netip.Prefix) []Rule {
	rules := []Rule{{Out: "lo", Target: Target{Verb: Return}, Purpose: PurposeExempt}}
	rules = append(rules, l.intoDevices()...)
	rules = append(rules, l.neverJudged(true, leaving, ByDestination)...)
	rules = append(rules, l.ownTraffic(true)...)
	rules = append(rules, Rule{
		Proto: xfrm.TCP, Policy: PolicyMatch{Dir: PolicyOut}, Target: Target{Verb: Jump, Chain: chainMSSOut}, Purpose: PurposeDispatch,
	})
	inClear := PolicyMatch{Dir: PolicyOut, None: true}
	for _, kind := range l.errorTypes() {
		rules = append(rules, Rule{
			Proto: l.icmp(), ICMP: ICMPMatch{Set: true, Type: kind}, Policy: inClear,
			Target: Target{Verb: Jump, Chain: chainError}, Purpose: PurposeDispatch,
		})
	}
	return append(rules, Rule{Target: Target{Verb: Goto, Chain: chainLeak}, Purpose: PurposeDispatch})
}
