package prove

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/expect"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
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

// RunTests asks rule sets for the verdicts on the packets of tests. A table of nftables that
// decides in their place, if there is one, must drop the same packets and no others.
func RunTests(tests []expect.Test, f *firewall.Facts, wanted []rules.Ruleset, table sets.Table, snapshot xfrm.Snapshot, set xfrm.Set) []Outcome {
	more := hostValues(snapshot.Host, set)
	for i := range snapshot.Policies {
		more.Prefix(snapshot.Policies[i].Selector.Src, snapshot.Policies[i].Selector.Dst)
	}
	more.Add(evaluate.Layout{Table: table}.Values())
	for _, t := range tests {
		more.Prefix(t.Src, t.Dst)
		more.SA(t.Reqid)
	}
	walls, tables := make(map[xfrm.Family]*evaluate.Firewall), make(map[xfrm.Family]*evaluate.Firewall)
	outcomes := make([]Outcome, len(tests))
	for i, t := range tests {
		o := &outcomes[i]
		o.Test, o.Held = t, true
		found := false
		for _, rs := range wanted {
			if !about(&t, rs.Family) {
				continue
			}
			w, ok := walls[rs.Family]
			if !ok {
				w = evaluate.NewWithoutNAT(rs, f, more)
				walls[rs.Family] = w
				if len(table.Chains) > 0 {
					tables[rs.Family] = w.Instead(evaluate.Layout{Table: table})
				}
			}
			for _, way := range waysOf(&t) {
				h := host{w.Space, snapshot, set}
				packets := h.packets(t, way)
				if packets == space.None {
					continue
				}
				found = true
				p, got, differs := wrong(w, &h, way, t.Expect, packets)
				if decides := tables[rs.Family]; !differs && decides != nil {
					p, got, differs = wrongByTable(decides, &h, way, t.Expect, packets)
				}
				if differs && o.Held {
					o.Held, o.Packet, o.Got = false, &p, got
				}
			}
		}
		for _, w := range []*evaluate.Firewall{walls[xfrm.IPv4], walls[xfrm.IPv6], tables[xfrm.IPv4], tables[xfrm.IPv6]} {
			if w != nil && w.Odd() != nil && o.Held {
				o.Held, o.Got = false, w.Odd().Error()
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
func (h *host) packets(t expect.Test, way firewall.Way) space.Set {
	set := h.words(t)
	and := func(other space.Set) { set = h.And(set, other) }
	local := h.own(h.Src)
	if way == firewall.FromHost {
		and(h.And(local, h.Bit(h.SrcLocal)))
		and(h.And(h.Bit(h.Tagged).Not(), h.And(h.Bit(h.Path.Present).Not(), h.Bit(h.Misrouted).Not())))
	} else {
		and(h.Minus(h.Minus(h.Bit(h.SrcLocal).Not(), local), h.Device(h.In, "lo")))
		and(h.interfaces(t))
	}
	if way == firewall.ToHost {
		and(h.And(h.delivered(), h.Bit(h.DstLocal)))
		return set
	}
	and(h.And(h.delivered().Not(), h.Bit(h.DstLocal).Not()))
	if t.Out != "" {
		and(h.Device(h.Out, t.Out))
	} else {
		and(h.routed(h.Dst, h.Out))
	}
	and(h.Device(h.Out, "lo").Not())
	return set
}

// words are the packets that a test names.
func (h *host) words(t expect.Test) space.Set {
	if t.Proto == xfrm.ICMP {
		t.Proto = h.ICMP()
		if !t.ICMP.Set {
			t.ICMP = rules.ICMPMatch{Set: true, Type: 8}
			if h.Family == xfrm.IPv6 {
				t.ICMP.Type = 128
			}
		}
	}
	c := h.Condition()
	c.LiesIn(h.Src, t.Src)
	c.LiesIn(h.Dst, t.Dst)
	c.Ports(h.SPort, t.SPorts)
	c.Ports(h.DPort, t.DPorts)
	if t.Proto != 0 {
		c.Number(h.Proto, uint64(t.Proto))
	}
	if t.ICMP.Set {
		c.Number(h.ICMPType, uint64(t.ICMP.Type))
		if t.ICMP.HasCode {
			c.Number(h.ICMPCode, uint64(t.ICMP.Code))
		}
	}
	set := c.Set()
	for _, b := range []struct {
		bit int
		is  bool
	}{
		{h.Tagged, t.Tag}, {h.Verified, false}, {h.Related, false}, {h.Established, t.Established}, {h.Reply, false}, {h.SNAT, false}, {h.DNAT, false},
	} {
		set = h.And(set, space.Negated(h.Bit(b.bit), !b.is))
	}
	set = h.And(set, h.Number(h.FWMark, 0))
	if t.HasReqid {
		return h.And(set, h.cameOutOf(t.Reqid))
	}
	return h.Minus(set, h.Bit(h.Path.Present))
}

// interfaces ties the interface that packets come in by to their source.
func (h *host) interfaces(t expect.Test) space.Set {
	home := h.routed(h.Src, h.In)
	set := h.Or(h.And(home, h.Bit(h.Misrouted).Not()), h.Minus(h.Bit(h.Misrouted), home))
	switch {
	case t.In != "":
		return h.And(set, h.Device(h.In, t.In))
	case t.HasReqid:
		if by := h.arrivesBy(t.Reqid); len(by) > 0 {
			return h.And(set, h.Union(by...))
		}
	}
	return h.And(set, home)
}

// arrivesBy are the packets in by the interfaces of the tunnels of a reqid: the xfrm
// interface, or that of the route to the peer.
func (h *host) arrivesBy(reqid uint32) []space.Set {
	var by []space.Set
	for i := range h.set.Tunnels {
		t := &h.set.Tunnels[i]
		if t.Reqid != reqid {
			continue
		}
		at := slices.IndexFunc(h.snapshot.Host.Links, func(l xfrm.Link) bool { return t.IfID != 0 && l.Kind == "xfrm" && l.IfID == t.IfID })
		if at >= 0 {
			by = append(by, h.Device(h.In, h.snapshot.Host.Links[at].Name))
		} else if r, ok := h.snapshot.Host.Route(t.Remote); ok {
			l, _ := h.snapshot.Host.Link(r.Link)
			by = append(by, h.Device(h.In, l.Name))
		}
	}
	return by
}

// going divides the packets of a test by the policies: those that the kernel holds or drops
// are held.
func (h *host) going(way firewall.Way, packets space.Set) (going, held space.Set) {
	if way == firewall.ToHost {
		return h.Minus(packets, h.Bit(h.Ahead.Present)), space.None
	}
	return h.encrypted(way, packets)
}

// wrongByTable returns a packet of a set that a table drops although it is expected to pass,
// or lets pass although it is to be dropped.
func wrongByTable(w *evaluate.Firewall, h *host, way firewall.Way, want expect.Verdict, packets space.Set) (firewall.Passage, string, bool) {
	packets, _ = h.going(way, packets)
	f := w.Among(packets).Run(way, packets)
	bad, got := w.And(packets, w.Or(f.Dropped, f.Rejected)), "drop by the table of nftables"
	if want.Action == "drop" || want.Action == "reject" {
		bad, got = w.Minus(packets, w.Or(f.Dropped, f.Rejected)), "pass by the table of nftables"
	}
	if bad == space.None {
		return firewall.Passage{}, "", false
	}
	return w.Witness(way, bad), got, true
}

// wrong returns a packet of a set that has another verdict than expected, and that
// verdict.
func wrong(w *evaluate.Firewall, h *host, way firewall.Way, want expect.Verdict, packets space.Set) (firewall.Passage, string, bool) {
	packets, held := h.going(way, packets)
	few := w.Among(w.Or(packets, held))
	f := few.Run(way, w.Or(packets, held))
	// The kernel drops packets that it holds, if no rule does before.
	f.Dropped = w.Or(f.Dropped, w.Minus(held, f.Rejected))
	f.Accepted, f.Left = w.Minus(f.Accepted, held), w.Minus(f.Left, held)
	bad := w.Minus(w.Or(packets, held), expected(w.Space, &f, want))
	if bad == space.None {
		return firewall.Passage{}, "", false
	}
	p := w.Witness(way, bad)
	return p, verdictOf(w.Space, &f, p), true
}

// expected are the packets with a verdict.
func expected(s *space.Space, f *evaluate.Fate, want expect.Verdict) space.Set {
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
	of := space.None
	for _, c := range want.Cases() {
		for _, sets := range []map[firewall.Case]space.Set{f.Discarded, f.Refused} {
			if dropped, ok := sets[c]; ok {
				of = s.Or(of, dropped)
			}
		}
	}
	return s.And(set, of)
}

// verdictOf is the verdict on a packet, in the words of an expectation.
func verdictOf(s *space.Space, f *evaluate.Fate, p firewall.Passage) string {
	for _, by := range []struct {
		action string
		sets   map[firewall.Case]space.Set
	}{{"drop", f.Discarded}, {"reject", f.Refused}} {
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
