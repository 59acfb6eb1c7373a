package compile

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// mangle lays out the classification. It stands in PREROUTING, where packets surely
// have their security path and no other program's rule has run. Tags are set in
// INPUT, because transit ESP never comes there.
func (l *cases) mangle() {
	m := l.Marks
	pre := []rules.Rule{{In: "lo", Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt}}
	pre = append(pre, l.overlayRules()...)
	pre = append(pre,
		rules.Rule{Policy: rules.PolicyMatch{Dir: rules.PolicyIn}, Target: rules.Target{Verb: rules.Goto, Chain: layout.ChainPol}, Purpose: rules.PurposeDispatch},
		rules.Rule{Mark: rules.MarkMatch{Mask: m.Both(), Not: true}, Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainStray}, Purpose: rules.PurposeDispatch},
		rules.Rule{
			Proto: l.ICMP(), Ct: rules.CtMatch{State: rules.CtRelated},
			Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainQuoted}, Purpose: rules.PurposeDispatch,
		},
	)
	// A spoofed packet is asked for its destination before DNAT here, after it below.
	pre = append(pre, tree.Prefilter(l.Within, tree.BySource, rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainArriving}})...)
	pre = append(pre, tree.Prefilter(l.Within, tree.ByDestination, rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: layout.ChainInject}})...)
	l.Chain(rules.Mangle, layout.ChainPre, pre...)
	l.Hook(rules.Mangle, "PREROUTING", layout.ChainPre)
	l.Chain(rules.Mangle, layout.ChainStray, rules.Rule{Target: layout.SetMark(0, m.Both()), Purpose: rules.PurposeStray, Case: firewall.Case5})

	// The guards skip decrypted packets.
	inClear := rules.PolicyMatch{Dir: rules.PolicyIn, None: true}
	in := []rules.Rule{{In: "lo", Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt}}
	in = append(in, l.tagDispatch()...)
	in = append(in, l.recheck(true)...)
	in = append(in, tree.Prefilter(l.Within, tree.BySource, rules.Rule{Policy: inClear, Target: rules.Target{Verb: rules.Goto, Chain: l.arrived()}})...)
	l.Chain(rules.Mangle, layout.ChainIn, in...)
	l.Hook(rules.Mangle, "INPUT", layout.ChainIn)

	fwd := append(l.recheck(false), injectAfterDNAT())
	fwd = append(fwd, tree.Prefilter(l.Within, tree.BySource, rules.Rule{Policy: inClear, Target: rules.Target{Verb: rules.Goto, Chain: layout.ChainSpoof}})...)
	l.Chain(rules.Mangle, layout.ChainFwd, fwd...)
	l.Hook(rules.Mangle, "FORWARD", layout.ChainFwd)

	l.tagging()
	l.classification()
	l.unconfirmed()
	l.mss()
	l.spoof()
	l.inject()
	l.injectedAfterDNAT()
	l.spoofedErrors()
	l.leaving()
	l.Drops()
}

// leaving lays out POSTROUTING, which all packets pass as they leave, after DNAT and
// with the real outgoing interface.
func (l *cases) leaving() {
	leaving := slices.Clone(l.Within)
	for _, c := range l.FamilyClaims {
		if c.MSS != 0 {
			leaving = append(leaving, c.Pair.Remote)
		}
	}
	leaving = prefix.Cover(leaving, tree.MaxPrefilter)
	l.Chain(rules.Mangle, layout.ChainLeaving, l.postrouting(leaving)...)
	l.Chain(rules.Mangle, layout.ChainPost, tree.Prefilter(leaving, tree.ByDestination, rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: layout.ChainLeaving}})...)
	l.Hook(rules.Mangle, "POSTROUTING", layout.ChainPost)
	l.leak()
	l.errors()
}

func (l *cases) postrouting(leaving []netip.Prefix) []rules.Rule {
	list := []rules.Rule{{Out: "lo", Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt}}
	list = append(list, l.sparedDevices()...)
	list = append(list, l.neverJudged(true, leaving, tree.ByDestination)...)
	list = append(list, l.ownTraffic(true)...)
	list = append(list, rules.Rule{
		Proto: xfrm.TCP, Policy: rules.PolicyMatch{Dir: rules.PolicyOut}, Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainMSSOut}, Purpose: rules.PurposeDispatch,
	})
	inClear := rules.PolicyMatch{Dir: rules.PolicyOut, None: true}
	for _, kind := range l.ErrorTypes() {
		list = append(list, rules.Rule{
			Proto: l.ICMP(), ICMP: rules.ICMPMatch{Set: true, Type: kind}, Policy: inClear,
			Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainError}, Purpose: rules.PurposeDispatch,
		})
	}
	return append(list, rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: layout.ChainLeak}, Purpose: rules.PurposeDispatch})
}
