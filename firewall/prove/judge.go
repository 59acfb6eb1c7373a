package prove

import (
	"github.com/xfrmfw/xfrmfw/firewall"
)

// judged is packets with one verdict.
type judged struct {
	firewall.Verdict
	set Set
}

// judge divides packets by firewall.Judge's verdict, in its order. Cases 8 and 8d are
// one here, and the case of an accepted packet is NoCase.
func (q *spec) judge(from Set) []judged {
	rest := from
	var list []judged
	add := func(a firewall.Action, c firewall.Case, set Set) {
		set = q.And(rest, set)
		rest = q.Minus(rest, set)
		list = append(list, judged{firewall.Verdict{Action: a, Case: c}, set})
	}
	inbound := truthOf(q.way != firewall.FromHost)
	add(firewall.Leave, firewall.Case9, q.onHost)
	add(firewall.Discard, firewall.Case7, q.And(inbound, q.strayCarriers()))
	if q.Enforce {
		add(firewall.Discard, firewall.Case3, q.evidenceOf(firewall.Case3))
	}
	unverified := q.Minus(q.decrypted, q.verified)
	add(firewall.Discard, firewall.Case7, q.And(unverified, q.Or(q.carriers(), q.known())))
	if q.way != firewall.FromHost {
		add(firewall.Discard, firewall.Case7b, q.And(unverified, q.ownedByAnother()))
		add(firewall.Discard, firewall.Case6, q.spoofedErrors())
		add(firewall.Discard, firewall.Case6, q.spoofed(q.received, q.Bit(q.dstLocal)))
		add(firewall.Discard, firewall.Case6b, q.injected())
		add(firewall.Discard, firewall.Case6b, q.injectedAfterDNAT())
		add(firewall.Discard, firewall.Case6, q.spoofed(q.routed, truthOf(q.way == firewall.ToHost)))
	}
	add(firewall.Admit, firewall.NoCase, q.ipsecOfHost())
	add(firewall.Refuse, firewall.Case8, q.refusedLeaks())
	add(firewall.Discard, firewall.NoCase, q.restrictedIn())
	add(firewall.Refuse, firewall.NoCase, q.restrictedOut())
	services := q.services()
	add(firewall.Discard, firewall.NoCase, q.Minus(q.underLockdown(), services))
	add(firewall.Discard, firewall.Case8c, q.leakedErrors())
	add(firewall.Discard, firewall.Case8, q.leaks())
	add(firewall.Discard, firewall.Case8b, q.leaksByNAT())
	add(firewall.Admit, firewall.NoCase, q.letIn())
	add(firewall.Leave, firewall.Case8e, q.strangers())
	add(firewall.Admit, firewall.NoCase, q.letOut())
	add(firewall.Admit, firewall.NoCase, services)
	add(firewall.Leave, firewall.NoCase, All)
	return list
}

// strayCarriers are verified packets in clear that carry an overlay device's and did
// not come by the way of its carriers.
func (q *spec) strayCarriers() Set {
	result, rest := None, q.And(q.decrypted.Not(), q.Bit(q.Space.verified))
	for i := range q.Overlays {
		o := &q.Overlays[i]
		is := q.And(rest, q.carries(o))
		rest = q.Minus(rest, is)
		result = q.Or(result, q.Minus(is, q.inAny(o.Below)))
	}
	return q.Or(result, q.And(rest, q.openCarriers()))
}

// known are packets out of a known reqid.
func (q *spec) known() Set {
	var sets []Set
	for _, k := range q.Known {
		sets = append(sets, q.number(q.path.reqid, uint64(k.Reqid)))
	}
	return q.And(q.decrypted, q.Union(sets...))
}

// possible are the packets that a kernel lets be: none on the loopback interface, none
// from outside with a source of this host (fib_validate_source), and none of this host's
// with another (but for transparent proxies).
func (q *spec) possible() Set {
	return q.And(q.onHost.Not(), negated(q.Bit(q.srcLocal), q.way != firewall.FromHost))
}

// plain are the packets that iptables rules tell apart. Packets of a tunnel that must
// carry none of our bits are judged anew in filter, by their addresses after DNAT. The
// outer packet of an SA that must not see our bits loses them in INPUT, also where it came
// out of another tunnel.
func (q *spec) plain() Set {
	var sets []Set
	for _, c := range q.claims {
		if c.PolicyOnly {
			sets = append(sets, q.cameOutOf(c.In))
		}
	}
	return q.Minus(q.possible(), q.Union(sets...))
}
