package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// tagDispatch sends outer packets to the tag chain.
func (l *cases) tagDispatch() []rules.Rule {
	to := rules.Target{Verb: rules.Jump, Chain: layout.ChainTag}
	list := []rules.Rule{
		{Proto: xfrm.ESP, Target: to, Purpose: rules.PurposeDispatch},
		{Proto: xfrm.AH, Target: to, Purpose: rules.PurposeDispatch},
		{Proto: xfrm.UDP, DPorts: firewall.Port(firewall.NATT), DstType: rules.Local, Target: to, Purpose: rules.PurposeDispatch},
	}
	for _, at := range l.FamilyEncapPorts() {
		list = append(list, rules.Rule{
			Dst: prefix.Single(at.Addr()), Proto: xfrm.UDP, DPorts: firewall.Port(at.Port()), Target: to, Purpose: rules.PurposeDispatch,
		})
	}
	return list
}

// tagging sets TAG on every outer packet, of any SA, so that no rekey
// races with a rule. SAs that a tagged packet would not find are spared, by address,
// never by SPI.
func (l *cases) tagging() {
	var list []rules.Rule
	for i := range l.Untagged {
		if o := &l.Untagged[i]; xfrm.FamilyOf(o.Peer) == l.Family {
			list = append(list, untaggedRules(o, l.Marks)...)
		}
	}
	list = append(list, rules.Rule{Target: layout.SetMark(l.Marks.Tag, l.Marks.Tag), Purpose: rules.PurposeTag})
	l.Chain(rules.Mangle, layout.ChainTag, list...)
}

// untaggedRules leave outer packets without our bits: a packet that came out of an
// outer tunnel may carry them already.
func untaggedRules(o *firewall.OuterFlow, m firewall.Marks) []rules.Rule {
	r := rules.Rule{Src: prefix.Single(o.Peer), Dst: prefix.Single(o.Local), Proto: o.Proto, Purpose: rules.PurposeUntagged, Tunnel: o.Tunnel}
	if o.Port != 0 {
		r.DPorts = firewall.Port(o.Port)
	}
	clearing := r
	clearing.Target = layout.SetMark(0, m.Both())
	r.Target = rules.Target{Verb: rules.Return}
	return []rules.Rule{clearing, r}
}
