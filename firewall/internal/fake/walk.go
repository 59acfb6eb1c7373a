package fake

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
)

// Walk sends a passage through the rules as netfilter does.
func Walk(e trace.Evaluator, f *firewall.Facts, p firewall.Passage) (firewall.Verdict, []trace.Step) {
	return walk(e, f, p, ^uint32(0))
}

// WalkWiped is Walk where a rule of another program, behind our PREROUTING, clears our
// bits.
func WalkWiped(e trace.Evaluator, f *firewall.Facts, p firewall.Passage) (firewall.Verdict, []trace.Step) {
	return walk(e, f, p, ^f.Marks.Both())
}

// walk keeps the bits of the mark that are in kept behind our PREROUTING.
func walk(e trace.Evaluator, f *firewall.Facts, p firewall.Passage, kept uint32) (firewall.Verdict, []trace.Step) {
	at := trace.Packet{
		Src: p.Received.Src, Dst: p.Received.Dst, SPort: p.Received.SPort, DPort: p.Received.DPort,
		In: p.In, Out: "", Proto: p.Proto, ICMPType: p.ICMPType, ICMPCode: p.ICMPCode,
		SecPath: p.Path, SrcLocal: p.SrcLocal, DstLocal: p.DstLocal, FailsRPFilter: p.FailsRPFilter, Ct: conntrackOf(p.Flow),
	}
	if p.Tagged {
		at.Mark |= f.Marks.Tag
	}
	if p.Verified {
		at.Mark |= f.Marks.Verified
	}
	type hook struct {
		table rules.Table
		name  string
	}
	hooks := []hook{{table: rules.Mangle, name: "PREROUTING"}, {table: rules.Mangle, name: "INPUT"}, {table: rules.Filter, name: "INPUT"}}
	switch p.Way {
	case firewall.Through:
		hooks = []hook{{table: rules.Mangle, name: "PREROUTING"}, {table: rules.Mangle, name: "FORWARD"}, {table: rules.Filter, name: "FORWARD"}, {table: rules.Mangle, name: "POSTROUTING"}}
	case firewall.FromHost:
		at.Mark, at.In = 0, ""
		hooks = []hook{{table: rules.Filter, name: "OUTPUT"}, {table: rules.Mangle, name: "POSTROUTING"}}
	}
	action := firewall.Leave
	var steps []trace.Step
	for _, h := range hooks {
		if h.name != "PREROUTING" {
			at.Mark |= p.Mark
			at.Src, at.Dst, at.SPort, at.DPort = p.AfterDNAT.Src, p.AfterDNAT.Dst, p.AfterDNAT.SPort, p.AfterDNAT.DPort
			at.OutBundle, at.DstLocal = p.Ahead, p.Way == firewall.ToHost
			if p.Way != firewall.ToHost {
				at.Out = p.Out
			}
		}
		if h.name == "POSTROUTING" {
			at.In = ""
		}
		var verb rules.Verb
		var met []trace.Step
		at, verb, met = e.Trace(h.table, h.name, at)
		steps = append(steps, met...)
		if h.name == "PREROUTING" {
			at.Mark &= kept
		}
		switch verb {
		case rules.Drop:
			action = firewall.Discard
		case rules.Reject:
			action = firewall.Refuse
		case rules.Accept:
			action = firewall.Admit
		}
		if verb == rules.Drop || verb == rules.Reject {
			break
		}
	}
	number, _ := trace.CaseOf(steps)
	return firewall.Verdict{Action: action, Case: number}, steps
}

func conntrackOf(f firewall.Flow) trace.Conntrack {
	c := trace.Conntrack{
		Dir: rules.CtOriginal, OrigSrc: f.OrigSrc, OrigDst: f.OrigDst, ReplSrc: f.ReplySrc, ReplDst: f.ReplyDst,
		Proto: f.Proto, OrigSPort: f.OrigSPort, OrigDPort: f.OrigDPort,
	}
	if f.Reply {
		c.Dir = rules.CtReply
	}
	for _, s := range []struct {
		is    bool
		state rules.CtState
	}{{f.Related, rules.CtRelated}, {f.Established, rules.CtEstablished}, {f.SNAT, rules.CtSNAT}, {f.DNAT, rules.CtDNAT}} {
		if s.is {
			c.State |= s.state
		}
	}
	return c
}
