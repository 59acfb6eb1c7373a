package prove

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/expect"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Outcome is the result of a test.
type Outcome struct {
	Test expect.Test
	// Held is true if all packets had the verdict, and there was one.
	Held bool
	// Packet is one that had another verdict, and Got that verdict. Without Packet Got says
	// why there was none.
	Packet *firewall.Passage
	Got    string
}

// RunTests asks rule sets for the verdicts on the packets of tests.
func RunTests(tests []expect.Test, f *firewall.Facts, sets []rules.Ruleset, snapshot xfrm.Snapshot, set xfrm.Set) []Outcome {
	var names []string
	for _, l := range snapshot.Host.Links {
		names = append(names, l.Name)
	}
	walls := make(map[xfrm.Family]*Firewall)
	outcomes := make([]Outcome, len(tests))
	for i, t := range tests {
		o := &outcomes[i]
		o.Test, o.Held = t, true
		found := false
		for _, rs := range sets {
			if !about(&t, rs.Family) {
				continue
			}
			w, ok := walls[rs.Family]
			if !ok {
				w = newFirewall(rs, f, names, true, true)
				walls[rs.Family] = w
			}
			for _, way := range waysOf(&t) {
				h := host{w.Space, snapshot, set}
				packets := h.packets(t, way)
				if packets == None {
					continue
				}
				found = true
				if p, got, wrong := w.wrong(&h, way, t.Expect, packets); wrong && o.Held {
					o.Held, o.Packet, o.Got = false, &p, got
				}
			}
		}
		if !found {
			o.Held, o.Got = false, "no packet: no interface, route or address of this host fits"
		}
	}
	return outcomes
}

// about reports whether a test is about a family.
func about(t *expect.Test, family xfrm.Family) bool {
	for _, p := range []netip.Prefix{t.Src, t.Dst} {
		if p.IsValid() && xfrm.FamilyOf(p.Addr()) != family {
			return false
		}
	}
	return true
}

// waysOf are those that packets of a test may take.
func waysOf(t *expect.Test) []firewall.Way {
	switch {
	case t.In != "" && t.Out != "":
		return []firewall.Way{firewall.Through}
	case t.In != "", t.HasReqid:
		return []firewall.Way{firewall.ToHost, firewall.Through}
	case t.Out != "":
		return []firewall.Way{firewall.FromHost}
	}
	return every
}

// packets are those of a test on one way.
func (h *host) packets(t expect.Test, way firewall.Way) Set {
	set := h.words(t)
	and := func(other Set) { set = h.And(set, other) }
	local := h.own(h.src)
	if way == firewall.FromHost {
		and(h.And(local, h.Bit(h.srcLocal)))
		and(h.And(h.Bit(h.tagged).Not(), h.And(h.Bit(h.path.present).Not(), h.Bit(h.misrouted).Not())))
	} else {
		and(h.Minus(h.Minus(h.Bit(h.srcLocal).Not(), local), h.device(h.in, "lo")))
		and(h.interfaces(t))
	}
	if way == firewall.ToHost {
		and(h.And(h.delivered(), h.Bit(h.dstLocal)))
		return set
	}
	and(h.And(h.delivered().Not(), h.Bit(h.dstLocal).Not()))
	if t.Out != "" {
		and(h.device(h.out, t.Out))
	} else {
		and(h.routed(h.dst, h.out))
	}
	and(h.device(h.out, "lo").Not())
	return set
}

// words are the packets that a test names.
func (h *host) words(t expect.Test) Set {
	if t.Proto == xfrm.ICMP {
		t.Proto = h.icmp()
		if !t.ICMP.Set {
			t.ICMP = rules.ICMPMatch{Set: true, Type: 8}
			if h.Family == xfrm.IPv6 {
				t.ICMP.Type = 128
			}
		}
	}
	c := h.condition()
	c.within(h.src, t.Src)
	c.within(h.dst, t.Dst)
	c.ports(h.sport, t.SPorts)
	c.ports(h.dport, t.DPorts)
	if t.Proto != 0 {
		c.number(h.proto, uint64(t.Proto))
	}
	if t.ICMP.Set {
		c.number(h.icmpType, uint64(t.ICMP.Type))
		if t.ICMP.HasCode {
			c.number(h.icmpCode, uint64(t.ICMP.Code))
		}
	}
	set := c.set()
	for _, b := range []struct {
		bit int
		is  bool
	}{
		{h.tagged, t.Tag}, {h.verified, false}, {h.related, false}, {h.established, t.Established}, {h.reply, false}, {h.snat, false}, {h.dnat, false},
	} {
		set = h.And(set, negated(h.Bit(b.bit), !b.is))
	}
	set = h.And(set, h.number(h.fwmark, 0))
	if t.HasReqid {
		return h.And(set, h.cameOutOf(t.Reqid))
	}
	return h.Minus(set, h.Bit(h.path.present))
}

// interfaces ties the interface that packets come in by to their source.
func (h *host) interfaces(t expect.Test) Set {
	home := h.routed(h.src, h.in)
	set := h.Or(h.And(home, h.Bit(h.misrouted).Not()), h.Minus(h.Bit(h.misrouted), home))
	switch {
	case t.In != "":
		return h.And(set, h.device(h.in, t.In))
	case t.HasReqid: // by the route to the peer, or the tunnel's device
		var by []Set
		for i := range h.set.Tunnels {
			tunnel := &h.set.Tunnels[i]
			if tunnel.Reqid != t.Reqid {
				continue
			}
			if r, ok := h.snapshot.Host.Route(tunnel.Remote); ok {
				l, _ := h.snapshot.Host.Link(r.Link)
				by = append(by, h.device(h.in, l.Name))
			}
		}
		return h.And(set, h.Union(by...))
	}
	return h.And(set, home)
}

// wrong returns a packet of a set that has another verdict than expected, and that
// verdict.
func (w *Firewall) wrong(h *host, way firewall.Way, want expect.Verdict, packets Set) (firewall.Passage, string, bool) {
	held := None
	if way != firewall.ToHost {
		packets, held = h.encrypted(way, packets)
	} else {
		packets = w.Minus(packets, w.Bit(w.ahead.present))
	}
	few := w.among(w.Or(packets, held))
	f := few.Run(way, w.Or(packets, held))
	// The kernel drops packets that it holds, if no rule does before.
	f.Dropped = w.Or(f.Dropped, w.Minus(held, f.Rejected))
	f.Accepted, f.Left = w.Minus(f.Accepted, held), w.Minus(f.Left, held)
	bad := w.Minus(w.Or(packets, held), f.expected(w.Space, want))
	if bad == None {
		return firewall.Passage{}, "", false
	}
	p := w.Witness(way, bad)
	return p, f.of(w.Space, p), true
}

// expected are the packets with a verdict.
func (f *Fate) expected(s *Space, want expect.Verdict) Set {
	set := f.Left
	switch want.Action {
	case "accept":
		set = f.Accepted
	case "drop":
		set = s.Or(f.Dropped, f.Rejected)
	case "reject":
		set = f.Rejected
	}
	if want.Word == "" {
		return set
	}
	if purpose, ok := want.Purpose(); ok {
		return s.And(set, f.Met(purpose))
	}
	of := None
	for _, c := range want.Cases() {
		for _, sets := range []map[firewall.Case]Set{f.discarded, f.refused} {
			if dropped, ok := sets[c]; ok {
				of = s.Or(of, dropped)
			}
		}
	}
	return s.And(set, of)
}

// of is the verdict on a packet, in the words of an expectation.
func (f *Fate) of(s *Space, p firewall.Passage) string {
	for _, by := range []struct {
		action string
		sets   map[firewall.Case]Set
	}{{"drop", f.discarded}, {"reject", f.refused}} {
		for c, set := range by.sets {
			if s.Has(set, p) {
				return expect.Verdict{Action: by.action, Word: c.String()}.String()
			}
		}
	}
	action := "leave"
	switch {
	case s.Has(f.Dropped, p):
		return "drop by the kernel: it holds the packet for a tunnel that is down, or a policy blocks it"
	case s.Has(f.Accepted, p):
		action = "accept"
	}
	for _, word := range []string{"1", "1b", "2", "3", "4", "open", "service"} {
		v := expect.Verdict{Action: "accept", Word: word}
		if purpose, _ := v.Purpose(); s.Has(f.Met(purpose), p) {
			return action + " " + word
		}
	}
	return action
}
