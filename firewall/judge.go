package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// judgements are the cases in the order in which they decide: first the evidence that
// a packet came out of a tunnel, then the drops in the order of the hooks, then the
// accepts. The first case that applies is the verdict.
var judgements = []struct {
	Verdict
	applies func(q *question) bool
}{
	{Verdict{Leave, Case9}, (*question).staysOnHost},
	{Verdict{Discard, Case7}, (*question).isStrayCarrier},
	{Verdict{Discard, Case3}, (*question).isUnconfirmed},
	{Verdict{Discard, Case7}, (*question).isCrossed},
	{Verdict{Discard, Case7b}, (*question).isForeign},
	{Verdict{Discard, Case6}, (*question).isSpoofedError},
	{Verdict{Discard, Case6}, (*question).isSpoofedAsReceived},
	{Verdict{Discard, Case6b}, (*question).isInjected},
	{Verdict{Discard, Case6b}, (*question).isInjectedAfterDNAT},
	{Verdict{Discard, Case6}, (*question).isSpoofed},
	{Verdict{Admit, NoCase}, (*question).isIPsecToHost},
	{Verdict{Refuse, Case8}, (*question).isRefusedLeak},
	{Verdict{Discard, NoCase}, (*question).isRestrictedIn},
	{Verdict{Refuse, NoCase}, (*question).isRestrictedOut},
	{Verdict{Discard, NoCase}, (*question).isLockedOut},
	{Verdict{Discard, Case8c}, (*question).isLeakedError},
	{Verdict{Discard, Case8}, (*question).isLeak},
	{Verdict{Discard, Case8b}, (*question).isLeakByNAT},
	{Verdict{Admit, Case1}, (*question).isLetIn},
	{Verdict{Leave, Case8e}, (*question).isStranger},
	{Verdict{Admit, NoCase}, (*question).isLetOut},
	{Verdict{Admit, NoCase}, (*question).isListedService},
}

// Judge gives the verdict on a packet by the facts. It is the specification of every
// engine: the table of verdicts as one list.
func Judge(f *Facts, p Passage) Verdict {
	q := &question{Facts: f, Passage: &p, family: xfrm.FamilyOf(p.Received.Src)}
	if p.Way != FromHost && !q.staysOnHost() {
		q.evidence = q.findEvidence()
	}
	for _, j := range judgements {
		if !j.applies(q) {
			continue
		}
		v := j.Verdict
		switch {
		case v.Case == Case1, v == (Verdict{Admit, NoCase}) && q.evidence != NoCase:
			v.Case = q.evidence
		case v == (Verdict{Admit, NoCase}) && q.remainder() == Case7b:
			v.Case = Case7b
		}
		if v.Case == Case8 && q.leaks().ByDestination {
			v.Case = Case8d
		}
		return v
	}
	return Verdict{Leave, q.remainder()}
}

// staysOnHost: a packet on the loopback interface concerns no tunnel.
func (q *question) staysOnHost() bool { return q.In == "lo" || q.Out == "lo" }

// isStrayCarrier: a verified packet without an SA that carries an overlay device's packet,
// and came in by another interface than the device's carriers do.
func (q *question) isStrayCarrier() bool {
	if q.Way == FromHost || q.decrypted() || !q.Verified {
		return false
	}
	if o := q.carrier(); o != nil {
		return !containsString(o.Below, q.In)
	}
	return q.isOpenCarrier()
}

// isOpenCarrier: a carrier for a device that takes carriers from any address. The carriers
// that a tunnel protects are found before.
func (q *question) isOpenCarrier() bool {
	for i := range q.OpenDevices {
		o, e := &q.OpenDevices[i], q.Received
		if q.Proto == o.Proto && (o.Port == 0 || o.Port == e.DPort) && (o.Local == e.Dst || !o.Local.IsValid() && q.DstLocal) {
			return true
		}
	}
	return false
}

// isUnconfirmed: case 3 under enforce.
func (q *question) isUnconfirmed() bool { return q.Enforce && q.evidence == Case3 }

// isCrossed: out of a known tunnel, and none of its claims verifies it; or the carrier
// of an overlay device that did not come out of its tunnel (case 7).
func (q *question) isCrossed() bool {
	if !q.decrypted() || q.evidence != NoCase || q.Way == FromHost {
		return false
	}
	if q.carrier() != nil || q.isOpenCarrier() {
		return true
	}
	for _, k := range q.Known {
		for _, sa := range q.Path {
			if sa.Reqid == k.Reqid {
				return true
			}
		}
	}
	return false
}

// isForeign: out of an unknown reqid, with a source that a live tunnel owns (case 7b).
func (q *question) isForeign() bool {
	return q.decrypted() && q.evidence == NoCase && q.Way != FromHost && q.ownedByAnother()
}

// isSpoofedAsReceived and isSpoofed: in clear, from a remote selector to its local one,
// before DNAT or after it (case 6).
//
// As received nothing tells whether the packet is for this host, and which mark it will
// have, so an exception of either direction holds, and one with a mark.
func (q *question) isSpoofedAsReceived() bool {
	return q.spoofs(q.Received, q.DstLocal, (*GuardFacts).inbound)
}

func (q *question) isSpoofed() bool {
	if q.Way == ToHost {
		return q.spoofs(q.AfterDNAT, true, func(g *GuardFacts) bool { return g.Enters() && g.Fits(q.Mark) })
	}
	return q.spoofs(q.AfterDNAT, false, func(g *GuardFacts) bool { return g.Passes() && g.Fits(q.Mark) })
}

func (g *GuardFacts) inbound() bool { return g.Inbound() }

func (q *question) spoofs(e Ends, toHost bool, decides func(*GuardFacts) bool) bool {
	if !q.inClear() || q.fromDevice() || q.neverJudged(e, toHost) || toHost && q.serves(e.Dst, e.DPort, e.SPort) {
		return false
	}
	fits := func(g *GuardFacts) bool { return decides(g) && q.comesFrom(g.Pair(), e) }
	return q.guard(exception(fits), func(g *GuardFacts) bool { return fits(g) && !exemptAt(g, q.In, e.Src) }) != nil
}

// isSpoofedError: an ICMP error in clear about a flow of a guarded pair (case 6).
func (q *question) isSpoofedError() bool {
	if !q.inClear() || !q.icmp() || !q.Flow.Related || q.DstLocal && q.isOwnFlow() {
		return false
	}
	f := &q.Flow
	return q.guard(exception(func(g *GuardFacts) bool {
		began, answered := q.isAboutPair(g)
		return g.Inbound() && (began || answered)
	}), func(g *GuardFacts) bool {
		began, answered := q.isAboutPair(g)
		spared := q.spares(g, f.OrigSrc) || q.spares(g, f.ReplySrc)
		return g.Inbound() && (began && (!spared || f.OrigSrc == g.Peer) || answered && (!spared || f.ReplySrc == g.Peer))
	}) != nil
}

// isAboutPair: the error is for a guard's local selector, about a flow that the remote
// end began, or answers.
func (q *question) isAboutPair(g *GuardFacts) (began, answered bool) {
	f := &q.Flow
	if !g.Local.Contains(q.Received.Dst) || g.Proto != 0 && g.Proto != f.Proto {
		return false, false
	}
	beganBy, answeredBy, ok := flowPorts(g)
	return ok && contains(g.Remote, f.OrigSrc) && beganBy(f), ok && contains(g.Remote, f.ReplySrc) && answeredBy(f)
}

// spares: an end of the flow lies in the remote selector, in a connected network there.
func (q *question) spares(g *GuardFacts, a netip.Addr) bool {
	return contains(g.Remote, a) && exemptAt(g, q.In, a)
}

// isInjected: in clear, from a local to a remote selector, in by an interface behind
// which the source does not live: the gateway would encrypt a stranger's packet
// (case 6b).
func (q *question) isInjected() bool {
	if !q.inClear() || !q.FailsRPFilter && !q.isFromNowhere(q.Received.Src) || containsString(q.Asymmetric, q.In) || q.neverJudged(q.Received, q.DstLocal) {
		return false
	}
	fits := func(g *GuardFacts) bool { return g.Outbound() && q.goesIn(g.Pair(), q.Received) }
	return q.guard(exception(fits), fits) != nil
}

// isFromNowhere: in by an uplink, with a source of a local selector that does not live
// behind this gateway, though the default route leads there.
func (q *question) isFromNowhere(src netip.Addr) bool {
	return containsString(q.Uplinks, q.In) && prefix.OverlapsAny(prefix.Single(src), q.PartlyBehind) && !prefix.OverlapsAny(prefix.Single(src), q.Behind)
}

// isInjectedAfterDNAT: case 6b for a packet that DNAT leads into a tunnel. Its source
// is behind this gateway by the routes.
func (q *question) isInjectedAfterDNAT() bool {
	if q.Way != Through || q.decrypted() || q.evidence != NoCase || len(q.Ahead) == 0 || !q.Flow.DNAT || q.Flow.Reply ||
		q.fromDevice() || containsString(q.Asymmetric, q.In) {
		return false
	}
	var home netip.Prefix
	for _, n := range q.Homes {
		switch {
		case !n.Prefix.Contains(q.AfterDNAT.Src), home.IsValid() && home != n.Prefix:
		case n.Device == q.In:
			return false
		default:
			home = n.Prefix
		}
	}
	if home.IsValid() {
		return true
	}
	fits := func(g *GuardFacts) bool { return g.Outbound() && q.goesIn(g.Pair(), q.AfterDNAT) }
	return q.isFromNowhere(q.AfterDNAT.Src) && q.guard(exception(fits), fits) != nil
}

// leaks returns the guard of a packet that leaves in clear, or nil. The packet goes from
// its local to its remote selector, or to the remote one alone in case 8d.
func (q *question) leaks() *GuardFacts {
	if !q.outInClear() || len(q.AheadSent) > 0 {
		return nil
	}
	return q.guard(exception(q.isOutbound), q.isLeakOf)
}

// isOutbound: the packet lies in the selectors of a guard or an exception, before SNAT
// or after it.
func (q *question) isOutbound(g *GuardFacts) bool {
	return g.Outbound() && g.Fits(q.Mark) && (q.goesIn(g.Pair(), q.AfterDNAT) || q.goesIn(g.Pair(), q.Sent))
}

func (q *question) isLeakOf(g *GuardFacts) bool {
	return (q.isPairsOwn(g, q.AfterDNAT) || q.isPairsOwn(g, q.Sent)) && !exemptAt(g, q.Out, q.AfterDNAT.Dst)
}

// isPairsOwn: ends lie in a guard's selectors. In case 8d the local one says nothing.
func (q *question) isPairsOwn(g *GuardFacts, e Ends) bool {
	pair := g.Pair()
	if g.ByDestination {
		pair.Local, e.SPort = netip.PrefixFrom(e.Src, 0), pair.LocalPort.Port
	}
	return q.goesIn(pair, e)
}

// isRefusedLeak: case 8 where the sender is told: forwarded packets, and this host's
// own unless the kernel holds them for a tunnel that is coming up.
func (q *question) isRefusedLeak() bool {
	if q.Way == ToHost {
		return false
	}
	if q.Way == Through {
		return q.leaks() != nil
	}
	return q.outInClear() && len(q.AheadSent) == 0 && q.guard(
		func(g *GuardFacts) bool { return (g.Exception || g.Held) && q.isOutbound(g) },
		func(g *GuardFacts) bool { return !g.Held && q.isLeakOf(g) }) != nil
}

// isLeak: case 8 for the packets that are left: they are dropped without an ICMP error.
func (q *question) isLeak() bool { return q.leaks() != nil }

// isLeakByNAT: a flow that was NATed before the tunnel came up. After all hooks its
// source is rewritten to one that no policy claims (case 8b).
func (q *question) isLeakByNAT() bool {
	if !q.outInClear() {
		return false
	}
	f := &q.Flow
	fits := func(g *GuardFacts) bool { return g.Outbound() && g.Fits(q.Mark) && q.goesIn(g.Pair(), q.AfterDNAT) }
	return q.guard(exception(fits), func(g *GuardFacts) bool {
		return g.Local.Bits() > 0 && fits(g) && !exemptAt(g, q.Out, q.AfterDNAT.Dst) &&
			(f.SNAT && !f.Reply && !prefix.OverlapsAny(prefix.Single(f.ReplyDst), g.Locals) || f.DNAT && f.Reply && !prefix.OverlapsAny(prefix.Single(f.OrigDst), g.Locals))
	}) != nil
}

// isLeakedError: an ICMP error to a remote selector in clear that is about a flow of
// the pair, or about no flow: it quotes the inner packet (case 8c).
func (q *question) isLeakedError() bool {
	if !q.outInClear() || len(q.AheadSent) > 0 || !q.error() || !q.icmp() {
		return false
	}
	e, f := q.AfterDNAT, &q.Flow
	return q.guard(
		exception(func(g *GuardFacts) bool {
			return g.Outbound() && g.Fits(q.Mark) && g.Local.Contains(e.Src) && g.Remote.Contains(e.Dst)
		}),
		func(g *GuardFacts) bool {
			apart := !g.Local.Overlaps(g.Remote)
			return g.Remote.Contains(e.Dst) && !exemptAt(g, q.Out, e.Dst) && (!f.Related ||
				contains(g.Local, f.OrigDst) && (apart || contains(g.Remote, f.OrigSrc)) ||
				contains(g.Local, f.OrigSrc) && (apart || contains(g.Remote, f.OrigDst)) ||
				contains(g.Local, f.ReplySrc))
		}) != nil
}

// remainder is the case of a packet that is left to the rest of the firewall.
func (q *question) remainder() Case {
	switch {
	case q.evidence != NoCase:
		return q.evidence
	case q.Way != FromHost && q.decrypted():
		return Case7b // unknown: decrypted, but by no tunnel that is known
	case q.Way != FromHost && (q.Tagged || q.Verified):
		return Case5
	}
	return Case9
}
