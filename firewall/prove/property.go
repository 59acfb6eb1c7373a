package prove

import (
	"sync"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/judge"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
)

// Property is a sentence about all packets.
type Property struct {
	Name string
	// Says is the sentence, Exempt are the packets that it leaves out.
	Says   string
	Exempt []string
	// ways are those on which it is asked. Broken returns the packets that break it.
	ways   []firewall.Way
	broken func(*question) space.Set
}

var (
	// through stands for both ways in: PREROUTING does not tell them apart.
	through = []firewall.Way{firewall.Through}
	inward  = []firewall.Way{firewall.ToHost, firewall.Through}
	outward = []firewall.Way{firewall.Through, firewall.FromHost}
	every   = []firewall.Way{firewall.ToHost, firewall.Through, firewall.FromHost}
)

// exemptions that several properties share.
const (
	exemptLinks = "packets that no site behind a tunnel can send: of link-local, multicast, broadcast and unspecified addresses, and neighbour discovery with this host"
	exemptOwn   = "this host's own IKE, ESP, AH and DHCP (UDP 67 to 68, 547 to 546)"
	exemptSPD   = "packets of a bypass policy, or one of level use, that the kernel takes first"
	exemptLAN   = "connected networks below a wider remote selector, on their own interface, but for the tunnel's peer"
	exemptXfrm  = "packets out of and into tunnel devices, and into VRFs, which leave by a port next"
	exemptCaps  = "what the configuration's remote: takes out of a policy's selectors"
)

// Properties are all that is proved, in the order in which they are reported.
func Properties() []Property {
	return []Property{
		{
			Name: "verified", Says: "A packet that carries VERIFIED behind mangle PREROUTING came out of an SA of a tunnel and lies in its selectors, is an ICMP error about one of its flows, or came out of a device inside a tunnel.",
			ways: through, broken: func(q *question) space.Set {
				is := q.unmarked(q.Minus(q.real, q.Verified))
				q.kept = is
				verified, _ := q.w.VerifiedOf(q.Way, is)
				return verified
			},
		},
		{
			Name: "tunnels", Says: "Each packet of a tunnel is verified behind mangle PREROUTING.",
			Exempt: []string{"packets of SAs and policies whose mark covers the bits of xfrmfw: filter accepts them on their SA alone", "packets without TAG under cross_check: enforce", "carriers of overlay devices that another device sends: they are dropped"},
			ways:   through, broken: func(q *question) space.Set {
				is := q.And(q.asked, q.Minus(q.Verified, q.StrayCarriers()))
				if q.Enforce {
					is = q.Minus(is, q.EvidenceOf(firewall.Case3))
				}
				verified, dropped := q.w.VerifiedOf(q.Way, is)
				return q.Minus(is, q.Or(verified, dropped))
			},
		},
		dropped("confirmed", "Under cross_check: enforce no packet of a tunnel passes without TAG.", inward, func(q *question) space.Set {
			if !q.Enforce {
				return space.None
			}
			return q.EvidenceOf(firewall.Case3)
		}),
		dropped("crossed", "No packet out of an SA passes whose tunnel does not claim it, if the SA's reqid is known or another tunnel owns the source.", inward, (*question).crossed),
		dropped("spoof", "No packet passes in clear from a tunnel's remote to its local selector, be the tunnel up, down or remembered, by its addresses before DNAT or behind it.", inward, func(q *question) space.Set {
			return q.Or(q.SpoofedAsReceived(), q.SpoofedAsRouted())
		}, exemptLinks, exemptOwn, exemptSPD, exemptLAN, exemptXfrm),
		dropped("spoof-error", "No ICMP error about a tunnel's flow passes in clear.", inward, (*question).spoofedError,
			"errors about this host's own IKE, ESP and AH", exemptSPD, exemptLAN),
		dropped("inject", "No packet of a stranger passes into a tunnel with a source that lives elsewhere: from a local to a remote selector, in by an interface that does not lead to its source.", inward, (*question).inject,
			"interfaces of guard: asymmetric", exemptLinks, exemptSPD),
		dropped("inject-dnat", "No such packet passes into a tunnel by way of DNAT.", []firewall.Way{firewall.Through}, (*question).injectDNAT,
			"interfaces of guard: asymmetric", exemptXfrm),
		{
			Name: "told", Says: "The sender of a packet that a leak's guard, out: or remote: stops is told: xfrmfw rejects it.",
			Exempt: []string{"packets that a property above has dropped", "packets of this host's own that the kernel holds for their tunnel", "the first leak of a flow, which a table of nftables drops: it rejects the next ones", "flows with NAT that such a table drops before", "packets that such a table drops by their destination alone, beside rules"},
			ways:   outward, broken: (*question).untold,
		},
		dropped("leak", "No packet from a tunnel's local to its remote selector leaves in clear, be the tunnel up, down or remembered; where the local end says nothing while the tunnel is down, none to its remote selector.", outward, (*question).leak,
			exemptLinks, exemptOwn, exemptSPD, exemptLAN, exemptXfrm),
		dropped("leak-nat", "No packet of a flow that was NATed before its tunnel came up leaves, because its rewritten source takes it out of the tunnel.", outward, (*question).leakNAT,
			exemptLinks, exemptOwn, exemptSPD, exemptLAN, exemptXfrm, "tunnels whose local selector is everything"),
		dropped("leak-error", "No ICMP error that quotes a tunnel's packet, or may, leaves in clear for its remote selector.", outward, (*question).leakError,
			exemptLinks, exemptSPD, exemptLAN, exemptXfrm),
		dropped("restricted-in", "No packet out of a tunnel passes that the tunnel's in: does not name.", inward, func(q *question) space.Set {
			return q.Minus(q.RestrictedIn(), q.IPsecOfHost())
		}, "replies, ICMP errors, and carriers of overlay devices, whose inner packets are restricted", "IKE, ESP and AH to this host"),
		dropped("restricted-out", "No packet passes into a tunnel that the tunnel's out: or remote: does not name.", outward, func(q *question) space.Set {
			return q.Minus(q.RestrictedOut(), q.IPsecOfHost())
		}, "replies, ICMP errors, and carriers of overlay devices, whose inner packets are restricted", "IKE, ESP and AH of this host"),
		dropped("lockdown", "Under lockdown no packet comes in by a WAN interface that neither a tunnel nor a listed service lets in.", inward, func(q *question) space.Set {
			return q.Minus(q.UnderLockdown(), q.Or(q.Services(), q.IPsecOfHost()))
		}, "replies, ICMP errors, neighbour discovery and DHCP"),
		{
			Name: "unmarked", Says: "A packet carries no bit of xfrmfw where the kernel looks for an SA or a policy whose mark covers it: behind mangle INPUT and PREROUTING. It is accepted without.",
			Exempt: []string{"packets that DNAT takes out of the tunnel's selectors, and those that NAT leads into a tunnel", "a table of nftables"},
			ways:   inward, broken: (*question).marked,
		},
		{
			Name: "tagged", Says: "Each outer packet of IPsec for this host carries TAG behind mangle INPUT, so that its inner packet does.",
			Exempt: []string{"outer packets whose SA must not see the bits of xfrmfw", "a table of nftables"},
			ways:   []firewall.Way{firewall.ToHost}, broken: (*question).untagged,
		},
		{
			Name: "wiped", Says: "A rule of others that clears the bits of xfrmfw behind mangle PREROUTING cuts no tunnel off, and lets no packet out of a tunnel pass that another property drops.",
			Exempt: []string{"packets of verified: return", "packets that DNAT takes out of the tunnel's selectors, those that NAT leads into a tunnel, and ICMP errors by other routers", "a table of nftables, but for the chains of other programs that stand behind its own"},
			ways:   inward, broken: (*question).wiped,
		},
		{
			Name: "forged", Says: "A rule of others that sets the bits of xfrmfw behind mangle PREROUTING lets no packet pass in clear that another property drops, and the rest of the firewall sees VERIFIED on none.",
			Exempt: []string{"packets in by overlay devices, which their carriers' mark alone tells", "hosts with packet offload, which loses all but the mark", "a table of nftables, but for the chains of other programs that stand behind its own"},
			ways:   inward, broken: (*question).forged,
		},
		{
			Name: "loopback", Says: "xfrmfw leaves packets on the loopback interface to the rest of the firewall.",
			Exempt: []string{"this host's own IKE, ESP and AH, which it accepts", "packets with an SA or a bit of xfrmfw", "a table of nftables"},
			ways:   []firewall.Way{firewall.ToHost, firewall.FromHost}, broken: func(q *question) space.Set {
				if q.w.Alone() {
					return space.None
				}
				is := q.Minus(q.OnLoopback(), q.Union(q.Decrypted, q.Encrypted(), q.Bit(q.Tagged), q.Bit(q.Space.Verified)))
				return q.Minus(is, q.Or(q.w.Run(q.Way, is).Left, q.IPsecOfHost()))
			},
		},
		{
			Name: "stranger", Says: "No rule of xfrmfw accepts a new flow that comes in where peers are, unverified, into a tunnel that takes any source.",
			ways: []firewall.Way{firewall.Through}, broken: func(q *question) space.Set {
				is := q.And(q.real, q.NewFromStrangers())
				return q.w.Run(q.Way, is).Accepted
			},
		},
		accepted("open", "This host's IKE, ESP and AH come and go, tunnel up or not.", []firewall.Way{firewall.ToHost, firewall.FromHost}, func(q *question) space.Set {
			return q.Minus(q.IPsecOfHost(), q.Decrypted)
		}, "a table of nftables leaves them to the rest of the firewall, and to the rules that accept for it"),
		accepted("accepted", "xfrmfw accepts each packet out of a tunnel and into one that no other property has dropped.", every, func(q *question) space.Set {
			return q.Or(q.LetIn(), q.Minus(q.LetOut(), q.NewFromStrangers()))
		}, "verified: return leaves packets out of tunnels to the rest of the firewall", "outer packets that came out of another tunnel, and whose own SA must not see the bits of xfrmfw"),
		{
			Name: "nat", Says: "No SNAT or MASQUERADE of others rewrites a packet that goes into a tunnel.",
			Exempt: []string{"tunnels with nat: keep"}, ways: outward, broken: (*question).rewritten,
		},
		{
			Name: "others", Says: "xfrmfw drops no packet but those of the properties above.",
			Exempt: []string{"ICMP errors about flows with both ends in guarded remote selectors", "flows with NAT, and errors that quote a packet, of which a table of nftables sees more"}, ways: every, broken: (*question).surplus,
		},
		dropped("kernel-in", "No packet comes in clear from the remote to the local end of a policy in the kernel, or of a remembered or configured pair, by an interface that leads to the internet or to a peer: by policies, memory and routes alone, whatever was decided of them.", inward, func(q *question) space.Set {
			by := q.kernel()
			in := q.Or(by.between(q.In, q.arriving()), by.between(q.In, q.arrived()))
			return q.Minus(in, q.Union(q.Decrypted, q.Unjudged(), q.FromOverlays()))
		}, exemptLinks, exemptOwn, exemptSPD, exemptLAN, exemptXfrm, exemptCaps),
		dropped("kernel-out", "No such packet leaves in clear from the local to the remote end.", outward, func(q *question) space.Set {
			return q.Minus(q.kernel().between(q.Out, q.leaving()), q.Or(q.Encrypted(), q.Unjudged()))
		}, exemptLinks, exemptOwn, exemptSPD, exemptLAN, exemptXfrm, exemptCaps),
		dropped("kernel-inject", "No packet comes in clear from the local to the remote end by an interface that does not lead to its source, and none by one that leads to the internet from where no own address, network or other route leads: by its addresses as it comes, or into an SA behind DNAT.", inward, func(q *question) space.Set {
			by := q.kernel()
			mapped := q.And(by.nowhere(q.mappedInto()), q.Minus(q.And(q.Encrypted(), q.Bit(q.DNAT)), q.Bit(q.Reply)))
			injected := q.Union(by.misrouted(q.entering()), by.nowhere(q.entering()), mapped)
			return q.Minus(injected, q.Union(q.Decrypted, q.FromOverlays(), q.NeverJudged(), by.byAny(q.In, q.in.Config.Guard.Asymmetric)))
		}, "interfaces of guard: asymmetric", "local ends of more addresses than a /8, and those of which no network lies behind another interface, or in behind:, as on a one-armed gateway", "sources that SNAT maps into a local end", exemptLinks, exemptSPD, "tunnel devices", exemptCaps),
		{
			Name: "kernel-source", Says: "A packet out of an SA carries VERIFIED only with a source that a policy of its reqid has. Where the policy is a device's and has all, no route leads to the source by another tunnel's device, unless one leads there by its own.",
			Exempt: []string{"ICMP errors, which any router may send", "devices without a route, and tunnels of a site:", "IP in IP between the ends of a tunnel with IPComp"},
			ways:   through, broken: func(q *question) space.Set {
				errors := q.Or(q.Quoting(), q.Bit(q.Related))
				is := q.And(q.Minus(q.asked, q.Union(errors, q.EvidenceOf(firewall.Case1c), q.LetOut())), q.kernel().unnamed())
				verified, _ := q.w.VerifiedOf(q.Way, is)
				return verified
			},
		},
	}
}

// question is a rule set in front of the facts, for packets on one way.
type question struct {
	*judge.Packets
	w *evaluate.Firewall
	// real are the packets that there may be, asked those of them that a property is about,
	// but for those that it exempts.
	real, asked space.Set
	// gone are the packets that are to be dropped by the properties so far.
	gone space.Set
	// told are the packets of which a table sees more than Judge. They are found once.
	told func() space.Set
	// in is the host as it was read.
	in firewall.Input
	// others are the rules of other programs, and kept the packets that none of them may do
	// to as the property asked last forbids.
	others []live.Other
	kept   space.Set
}

func ask(w *evaluate.Firewall, f *firewall.Facts, in firewall.Input, way firewall.Way, others []live.Other) *question {
	q := &question{w: w, in: in, Packets: judge.New(w.Space, f, way), others: others, gone: space.None, kept: space.None}
	q.real, q.asked, q.told = q.Possible(), q.Plain(), sync.OnceValue(q.ToldByTable)
	told := space.None
	switch {
	case w.Alone():
		told = q.Or(q.told(), q.Contradictory())
	case w.Beside():
		told = q.NotOfHost()
	}
	q.real, q.asked = q.Minus(q.real, told), q.Minus(q.asked, told)
	return q
}

// dropped is the property that some packets are dropped or rejected.
func dropped(name, says string, ways []firewall.Way, which func(*question) space.Set, exempt ...string) Property {
	return Property{Name: name, Says: says, Exempt: exempt, ways: ways, broken: func(q *question) space.Set {
		is := q.And(q.asked, which(q))
		q.gone, q.kept = q.Or(q.gone, is), is
		if is = q.Minus(is, q.w.Surely(q.Way, rules.Drop, rules.Reject)); is == space.None {
			return space.None
		}
		f := q.w.Run(q.Way, is)
		return q.Or(f.Accepted, f.Left)
	}}
}

// accepted is the property that some packets are accepted, if none of the properties
// before drops them.
func accepted(name, says string, ways []firewall.Way, which func(*question) space.Set, exempt ...string) Property {
	return Property{Name: name, Says: says, Exempt: exempt, ways: ways, broken: func(q *question) space.Set {
		is := q.unmapped(q.but(q.And(q.asked, which(q)), q.gone))
		if is = q.Minus(is, q.w.Surely(q.Way, rules.Accept)); is == space.None {
			return space.None
		}
		f := q.w.Run(q.Way, is)
		if name == "open" && q.w.Alone() {
			return q.Minus(is, q.Or(f.Accepted, f.Left))
		}
		return q.Minus(is, f.Accepted)
	}}
}

// but returns a set without others. One after the other they leave less and less of it, while
// their union has parts that the set does not have.
func (q *question) but(set space.Set, others ...space.Set) space.Set {
	for _, other := range others {
		set = q.Minus(set, other)
	}
	return set
}

func (q *question) crossed() space.Set {
	unverified := q.Minus(q.Decrypted, q.Verified)
	return q.Union(q.And(unverified, q.Union(q.Carriers(), q.OfKnownReqid(), q.OwnedByAnother())), q.StrayCarriers())
}

// untold are packets to be rejected that pass, or are dropped without a word.
func (q *question) untold() space.Set {
	leaks := q.RefusedLeaks()
	restricted := q.Minus(q.RestrictedOut(), q.Or(q.RestrictedIn(), leaks))
	switch {
	case q.w.Alone():
		leaks = space.None
	case q.w.Beside():
		leaks = q.RefusedByRules()
	}
	is := q.And(q.asked, q.Or(leaks, restricted))
	if is = q.unmapped(q.but(is, q.gone, q.IPsecOfHost())); is == space.None {
		return space.None
	}
	return q.Minus(is, q.w.Run(q.Way, is).Rejected)
}

// marked are packets whose SA or policy is found by a mark that covers our bits, and
// that carry one, or are not accepted although Judge lets them in.
func (q *question) marked() space.Set {
	if q.w.Alone() {
		return space.None
	}
	result := q.Or(q.w.MarksBehind(q.Way, "INPUT", q.And(q.real, q.BareOuter())))
	is := q.unmapped(q.And(q.real, q.BareInner()))
	if is == space.None {
		return result
	}
	fate := q.w.Run(q.Way, is)
	result = q.Or(result, q.Or(q.w.MarksBehind(q.Way, "PREROUTING", is)))
	for _, j := range q.Verdicts(is) {
		switch j.Action {
		case firewall.Admit:
			result = q.Or(result, q.Minus(j.Set, fate.Accepted))
		case firewall.Leave:
			result = q.Or(result, q.And(j.Set, q.Or(fate.Dropped, fate.Rejected)))
		}
	}
	return result
}

// untagged are outer packets that pass mangle INPUT without TAG.
func (q *question) untagged() space.Set {
	if q.w.Alone() {
		return space.None
	}
	is := q.Minus(q.And(q.asked, q.Outer()), q.Or(q.BareOuter(), q.gone))
	tagged, _ := q.w.MarksBehind(q.Way, "INPUT", is)
	return q.Minus(is, tagged)
}

// unmarked are the packets of a set but for those into a tunnel that a table marks as well.
func (q *question) unmarked(is space.Set) space.Set {
	if q.w.Alone() {
		is = q.Minus(is, q.Minus(q.LetOut(), q.NewFromStrangers()))
	}
	return is
}

// wiped are packets out of tunnels that meet another verdict once their mark is lost.
func (q *question) wiped() space.Set {
	if q.MarkOnly {
		return space.None
	}
	is := q.unmapped(q.And(q.asked, q.InSelectors()))
	in := q.w.Run(q.Way, is).Accepted
	if q.kept = in; q.w.Alone() {
		return space.None
	}
	cut := q.Minus(in, q.w.Tampered(q.Way, in, false, false).Accepted)
	gone := q.And(q.Decrypted, q.gone)
	f := q.w.Tampered(q.Way, gone, false, false)
	return q.Union(cut, f.Accepted, f.Left)
}

// forged are packets in clear that pass with a mark that others set.
func (q *question) forged() space.Set {
	clear := q.unmarked(q.Minus(q.asked, q.Or(q.Decrypted, q.FromOverlays())))
	if q.kept = clear; q.w.Alone() || q.PacketOffload {
		return space.None
	}
	gone, all := q.And(q.gone, clear), q.w.Tampered(q.Way, clear, false, true)
	tagged := q.w.Tampered(q.Way, gone, true, true)
	return q.Union(q.w.StillVerified(q.Way, &all), q.And(gone, q.Or(all.Accepted, all.Left)), tagged.Accepted, tagged.Left)
}

func (q *question) kernel() *kernel { return newKernel(q.Space, q.in) }

func (q *question) spoofedError() space.Set { return q.SpoofedErrors() }
func (q *question) inject() space.Set       { return q.Injected() }
func (q *question) leak() space.Set         { return q.Or(q.Leaks(), q.RefusedLeaks()) }
func (q *question) leakError() space.Set    { return q.LeakedErrors() }

// injectDNAT are the packets of case 6b that DNAT leads into a tunnel. A table asks the
// routes themselves where a source lives.
func (q *question) injectDNAT() space.Set {
	if q.w.Alone() {
		return q.And(q.InjectedAfterDNAT(), q.Bit(q.Misrouted))
	}
	return q.InjectedAfterDNAT()
}

// leakNAT are the packets of case 8b. A table asks behind all NAT, where the packet's
// own policy tells whether it leaves in clear.
func (q *question) leakNAT() space.Set {
	if q.w.Alone() {
		return q.Minus(q.LeaksByNAT(), q.Encrypted())
	}
	return q.LeaksByNAT()
}

// unmapped returns a set of packets asked for without those that a table may drop, and Judge
// does not: those that NAT leads into a tunnel, or out of it, and those of which the table sees
// more. Where it decides alone, none of the latter are asked for.
func (q *question) unmapped(is space.Set) space.Set {
	if is == space.None || !q.w.Alone() && !q.w.Beside() {
		return is
	}
	mapped, may := q.Or(q.Bit(q.SNAT), q.Bit(q.DNAT)), q.w.TableMayEnd(q.Way)
	is = q.Minus(is, q.And(q.And(is, mapped), may))
	if q.w.Alone() {
		return is
	}
	if may = q.And(is, may); may != space.None {
		is = q.Minus(is, q.And(may, q.told()))
	}
	return is
}

// surplus are packets that are dropped, and that no property before names.
func (q *question) surplus() space.Set {
	is := q.unmapped(q.but(q.And(q.asked, q.w.MayEnd(q.Way)), q.gone, q.BetweenRemotes()))
	if is == space.None {
		return space.None
	}
	f := q.w.Run(q.Way, is)
	return q.Or(f.Dropped, f.Rejected)
}
