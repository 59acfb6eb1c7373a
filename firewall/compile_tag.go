package firewall

import "github.com/xfrmfw/xfrmfw/xfrm"

// tagDispatch sends outer packets to the tag chain.
func (l *layout) tagDispatch() []Rule {
	to := Target{Verb: Jump, Chain: chainTag}
	rules := []Rule{
		{Proto: xfrm.ESP, Target: to, Purpose: PurposeDispatch},
		{Proto: xfrm.AH, Target: to, Purpose: PurposeDispatch},
		{Proto: xfrm.UDP, DPorts: Port(NATT), DstType: Local, Target: to, Purpose: PurposeDispatch},
	}
	for _, at := range l.encapPorts() {
		rules = append(rules, Rule{
			Dst: single(at.Addr()), Proto: xfrm.UDP, DPorts: Port(at.Port()), Target: to, Purpose: PurposeDispatch,
		})
	}
	return rules
}

// tagging sets TAG on every outer packet, whatever SA it belongs to, so that no rekey
// races with a rule. SAs that a tagged packet would not find are spared, by address,
// never by SPI.
func (l *layout) tagging() {
	var rules []Rule
	for i := range l.Untagged {
		if o := &l.Untagged[i]; familyOf(o.Peer) == l.family {
			rules = append(rules, untaggedRules(o, l.Marks)...)
		}
	}
	rules = append(rules, Rule{Target: setMark(l.Marks.Tag, l.Marks.Tag), Purpose: PurposeTag})
	l.chain(Mangle, chainTag, rules...)
}

// untaggedRules leave outer packets without our bits: a packet that came out of an
// outer tunnel may carry them already.
func untaggedRules(o *OuterFlow, m Marks) []Rule {
	r := Rule{Src: single(o.Peer), Dst: single(o.Local), Proto: o.Proto, Purpose: PurposeUntagged, Tunnel: o.Tunnel}
	if o.Port != 0 {
		r.DPorts = Port(o.Port)
	}
	clearing := r
	clearing.Target = setMark(0, m.Both())
	r.Target = Target{Verb: Return}
	return []Rule{clearing, r}
}
