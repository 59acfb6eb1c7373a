package compile

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// mss lays out the trees that lower the segment size of TCP connections through
// tunnels, in both directions. TCPMSS never raises it. Pairs of a tunnel that share a
// remote selector have one rule.
func (l *cases) mss() {
	var in, out []tree.Entry
	have := make(map[rules.Rule]bool)
	for _, c := range l.FamilyClaims {
		if c.MSS == 0 {
			continue
		}
		r := rules.Rule{Proto: xfrm.TCP, Target: rules.Target{Verb: rules.ClampMSS, Size: c.MSS}, Purpose: rules.PurposeMSS, Tunnel: c.Tunnel}
		r.Src, r.Policy = c.Pair.Remote, layout.PolicyIn(c.In)
		if have[r] {
			continue
		}
		have[r] = true
		in = append(in, layout.Entry(c.Pair.Remote, r))
		r.Src, r.Dst, r.Policy = netip.Prefix{}, c.Pair.Remote, layout.PolicyOut(c.Out)
		out = append(out, layout.Entry(c.Pair.Remote, r))
	}
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainMSSIn, By: tree.BySource, AnyOrder: true}, in)
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainMSSOut, By: tree.ByDestination, AnyOrder: true}, out)
}
