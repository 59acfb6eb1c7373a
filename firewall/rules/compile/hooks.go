package compile

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// mangle lays out the classification. It stands in PREROUTING, where packets surely
// have their security path and no other program's rule has run. Tags are set in
// INPUT, because transit ESP never comes there.
func (l *layout) mangle() {
	m := l.Marks
	pre := []rules.Rule{{In: "lo", Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt}}
	pre = append(pre, l.overlayRules()...)
	pre = append(pre,
		rules.Rule{Policy: rules.PolicyMatch{Dir: rules.PolicyIn}, Target: rules.Target{Verb: rules.Goto, Chain: chainPol}, Purpose: rules.PurposeDispatch},
		rules.Rule{Mark: rules.MarkMatch{Mask: m.Both(), Not: true}, Target: rules.Target{Verb: rules.Jump, Chain: chainStray}, Purpose: rules.PurposeDispatch},
		rules.Rule{
			Proto: l.icmp(), Ct: rules.CtMatch{State: rules.CtRelated},
			Target: rules.Target{Verb: rules.Jump, Chain: chainQuoted}, Purpose: rules.PurposeDispatch,
		},
	)
	// A spoofed packet is asked for its destination before DNAT here, after it below.
	pre = append(pre, tree.Prefilter(l.within, tree.BySource, rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: chainArriving}})...)
	pre = append(pre, tree.Prefilter(l.within, tree.ByDestination, rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: chainInject}})...)
	l.chain(rules.Mangle, chainPre, pre...)
	l.hook(rules.Mangle, "PREROUTING", chainPre)
	l.chain(rules.Mangle, chainStray, rules.Rule{Target: setMark(0, m.Both()), Purpose: rules.PurposeStray, Case: firewall.Case5})

	// The guards skip decrypted packets.
	inClear := rules.PolicyMatch{Dir: rules.PolicyIn, None: true}
	in := []rules.Rule{{In: "lo", Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt}}
	in = append(in, l.tagDispatch()...)
	in = append(in, l.recheck(true)...)
	in = append(in, tree.Prefilter(l.within, tree.BySource, rules.Rule{Policy: inClear, Target: rules.Target{Verb: rules.Goto, Chain: l.arrived()}})...)
	l.chain(rules.Mangle, chainIn, in...)
	l.hook(rules.Mangle, "INPUT", chainIn)

	fwd := append(l.recheck(false), injectAfterDNAT())
	fwd = append(fwd, tree.Prefilter(l.within, tree.BySource, rules.Rule{Policy: inClear, Target: rules.Target{Verb: rules.Goto, Chain: chainSpoof}})...)
	l.chain(rules.Mangle, chainFwd, fwd...)
	l.hook(rules.Mangle, "FORWARD", chainFwd)

	l.tagging()
	l.classification()
	l.unconfirmed()
	l.mss()
	l.spoof()
	l.inject()
	l.injectedAfterDNAT()
	l.spoofedErrors()
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
	leaving = prefix.Cover(leaving, tree.MaxPrefilter)
	l.chain(rules.Mangle, chainLeaving, l.postrouting(leaving)...)
	l.chain(rules.Mangle, chainPost, tree.Prefilter(leaving, tree.ByDestination, rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: chainLeaving}})...)
	l.hook(rules.Mangle, "POSTROUTING", chainPost)
	l.leak()
	l.errors()
}

func (l *layout) postrouting(leaving []netip.Prefix) []rules.Rule {
	list := []rules.Rule{{Out: "lo", Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt}}
	list = append(list, l.sparedDevices()...)
	list = append(list, l.neverJudged(true, leaving, tree.ByDestination)...)
	list = append(list, l.ownTraffic(true)...)
	list = append(list, rules.Rule{
		Proto: xfrm.TCP, Policy: rules.PolicyMatch{Dir: rules.PolicyOut}, Target: rules.Target{Verb: rules.Jump, Chain: chainMSSOut}, Purpose: rules.PurposeDispatch,
	})
	inClear := rules.PolicyMatch{Dir: rules.PolicyOut, None: true}
	for _, kind := range l.errorTypes() {
		list = append(list, rules.Rule{
			Proto: l.icmp(), ICMP: rules.ICMPMatch{Set: true, Type: kind}, Policy: inClear,
			Target: rules.Target{Verb: rules.Jump, Chain: chainError}, Purpose: rules.PurposeDispatch,
		})
	}
	return append(list, rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: chainLeak}, Purpose: rules.PurposeDispatch})
}
