package explain

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
)

// actions are the actions of the specification, in the words of the JSON form.
var actions = map[firewall.Action]Action{
	firewall.Leave: Returned, firewall.Admit: Accepted, firewall.Discard: Dropped, firewall.Refuse: Rejected,
}

// ways are the ways of the specification.
var ways = map[way]firewall.Way{toHost: firewall.ToHost, through: firewall.Through, fromHost: firewall.FromHost}

// judge is the verdict of the specification on a packet that was walked: NAT does not
// change it, so its ends stay the same.
func (w World) judge(k walker, p passage) firewall.Verdict {
	pk, marks := p.packet, w.Result.Marks
	ends := firewall.Ends{Src: pk.Src, Dst: pk.Dst, SPort: pk.SPort, DPort: pk.DPort}
	return firewall.Judge(&w.Result.Facts, firewall.Passage{
		Way: ways[p.way], In: pk.In, Out: k.packet.Out, Proto: pk.Proto, ICMPType: pk.ICMPType, ICMPCode: pk.ICMPCode,
		Received: ends, AfterDNAT: ends, Sent: ends,
		Path: pk.SecPath, Ahead: k.packet.OutBundle, AheadSent: k.packet.OutBundle,
		Tagged: pk.Mark&marks.Tag != 0, Verified: pk.Mark&marks.Verified != 0,
		SrcLocal: pk.SrcLocal, DstLocal: pk.DstLocal, FailsRPFilter: pk.FailsRPFilter, Flow: flowOf(pk.Ct),
	})
}

func flowOf(c trace.Conntrack) firewall.Flow {
	return firewall.Flow{
		Related: c.State&rules.CtRelated != 0, Established: c.State&rules.CtEstablished != 0, Reply: c.Dir == rules.CtReply,
		Proto: c.Proto, OrigSrc: c.OrigSrc, OrigDst: c.OrigDst, ReplySrc: c.ReplSrc, ReplyDst: c.ReplDst,
		OrigSPort: c.OrigSPort, OrigDPort: c.OrigDPort,
	}
}

// result is the verdict of the rules alone, without the kernel's own checks.
func (k walker) result() firewall.Verdict {
	number, _ := trace.CaseOf(k.trace)
	for action, word := range actions {
		if word == k.byRules {
			return firewall.Verdict{Action: action, Case: number}
		}
	}
	return firewall.Verdict{Case: number}
}

// agree reports whether the rules give the verdict of the specification. Rules of case
// 8 and 8d that are alike are one rule.
func agree(got, want firewall.Verdict) bool {
	if got.Case == firewall.Case8 && want.Case == firewall.Case8d {
		got.Case = firewall.Case8d
	}
	return got == want
}

// settle compares the verdict of the rules with that of the specification. It returns the
// verdict to tell, and a sentence about a difference: a warning if rules lack an
// extension of iptables, else a fault of xfrmfw.
func (w World) settle(k walker, p passage) (tell firewall.Verdict, fault, warning string) {
	got, want := k.result(), w.judge(k, p)
	switch {
	case agree(got, want):
		return want, "", ""
	case w.Beside && want.Case == firewall.Case8d && got.Action == firewall.Leave:
		want.Action = firewall.Discard
		return want, "", ""
	case w.Result.Degraded:
		return got, "", "with all extensions of iptables: " + inWords(want)
	}
	return want, fmt.Sprintf("the rules give another verdict: %s. This is a fault of xfrmfw: report it with the output of xfrmfw snapshot", inWords(got)), ""
}

func inWords(v firewall.Verdict) string {
	if v.Case == firewall.NoCase {
		return string(actions[v.Action])
	}
	return fmt.Sprintf("%s by case %s", actions[v.Action], v.Case)
}
