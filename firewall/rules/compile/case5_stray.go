package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
)

// recheck clears VERIFIED from packets without a security path: a CONNMARK restore of
// another program, which runs after our PREROUTING, would bring it back to the
// cleartext packets of a flow. The guards skip verified packets.
func (l *cases) recheck(input bool) []rules.Rule {
	verified := layout.Has(l.Marks.Verified)
	var list []rules.Rule
	for i := range l.Overlays {
		for _, name := range l.Overlays[i].Devices {
			list = append(list, rules.Rule{In: name, Mark: verified, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone})
		}
	}
	if l.PacketOffload && !input {
		return append(list, rules.Rule{Mark: verified, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone})
	}
	return append(list, rules.Rule{
		Mark: verified, Policy: rules.PolicyMatch{Dir: rules.PolicyIn, None: true},
		Target: layout.SetMark(0, l.Marks.Verified), Purpose: rules.PurposeStray, Case: firewall.Case5,
	})
}
