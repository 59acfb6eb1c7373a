package prove

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/expect"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// kernelArrival is a way in which packets arrive: in clear by a link, out of an SA, or from
// the gateway itself.
type kernelArrival struct {
	way firewall.Way
	of  expect.Test
	// outer is the packet of ESP that they come in, of which the SA is sa.
	outer *firewall.Passage
	sa    lab.SA
}

// arrivals are those that the test can make.
func (c *kernelRun) arrivals(family xfrm.Family, e trace.Evaluator) []kernelArrival {
	var all []kernelArrival
	for _, way := range ways {
		if way == firewall.FromHost {
			all = append(all, kernelArrival{way: way})
			continue
		}
		for _, link := range kernelLinks {
			all = append(all, kernelArrival{way: way, of: expect.Test{In: link}})
		}
		for reqid, sa := range c.inbound {
			if (lab.FamilyOf(sa.Src) == lab.IPv6) != (family == xfrm.IPv6) {
				continue // the outer packet is the other family's
			}
			outer := &firewall.Passage{
				Way: firewall.ToHost, In: "wan0", Proto: xfrm.ESP, Received: firewall.Ends{Src: sa.Src, Dst: sa.Dst}, AfterDNAT: firewall.Ends{Src: sa.Src, Dst: sa.Dst}, DstLocal: true,
				Flow: firewall.Flow{Proto: xfrm.ESP, OrigSrc: sa.Src, OrigDst: sa.Dst, ReplySrc: sa.Dst, ReplyDst: sa.Src},
			}
			_, steps := fake.Walk(e, &c.facts, *outer)
			mark := uint32(0)
			for _, s := range steps {
				if s.Rule.Target.Verb == rules.SetMark {
					mark = mark&^s.Rule.Target.Mask ^ s.Rule.Target.Value
				}
			}
			all = append(all, kernelArrival{way, expect.Test{In: "wan0", Reqid: reqid, HasReqid: true, Tag: mark&c.facts.Marks.Tag != 0}, outer, sa})
		}
	}
	return all
}

// kernelKinds are all kinds of packets by their flow.
func kernelKinds() (all []space.Kind) {
	for n := range 16 {
		all = append(all, space.Kind{Error: n&8 != 0, Reply: n&4 != 0, SNAT: n&1 != 0, DNAT: n&2 != 0})
	}
	return all
}

// values are those that questions about the gateway's packets ask for.
func (c *kernelRun) values() space.Values {
	v := Values(c.in)
	v.Names = append(slices.Clone(kernelLinks), "lo")
	v.Prefix(c.odd()...)
	for _, p := range c.snapshot.Policies {
		v.Prefix(p.Selector.Src, p.Selector.Dst)
	}
	return v
}

// odd are addresses of packets that the kernel refuses before the rules see them, or that
// it takes for others than those of a link.
func (c *kernelRun) odd() []netip.Prefix {
	p := netip.MustParsePrefix
	odd := []netip.Prefix{
		p("0.0.0.0/8"), p("127.0.0.0/8"), p("224.0.0.0/3"), p("169.254.0.0/16"), p("::/96"), p("::ffff:0:0/96"), p("fe80::/10"), p("ff00::/8"),
	}
	for _, a := range c.snapshot.Host.Addresses { // broadcasts, and anycasts of routers
		first, last := a.Prefix.Masked().Addr(), a.Prefix.Masked().Addr()
		b := last.AsSlice()
		for i := a.Prefix.Bits(); i < 8*len(b); i++ {
			b[i/8] |= 1 << (7 - i%8)
		}
		last, _ = netip.AddrFromSlice(b)
		odd = append(odd, netip.PrefixFrom(first, first.BitLen()), netip.PrefixFrom(last, last.BitLen()))
	}
	return odd
}

// coming are the packets of an arrival that the kernel lets take their way. They may have any
// flow.
func (c *kernelRun) coming(s *space.Space, at kernelArrival) space.Set {
	h := &host{s, c.snapshot, c.in.Set}
	set := h.And(h.Number(h.FWMark, 0), h.Minus(c.wellFormed(h), h.Bit(h.Verified)))
	set = h.And(set, space.Negated(h.Bit(h.Tagged), !at.of.Tag))
	if at.of.HasReqid {
		set = h.And(set, h.cameOutOf(at.of.Reqid))
	} else {
		set = h.Minus(set, h.Bit(h.Path.Present))
	}
	own := h.own(h.Src)
	set = h.And(set, h.same(h.Bit(h.DstLocal), h.own(h.Dst)))
	if at.way == firewall.FromHost {
		set = h.Minus(h.And(set, h.And(own, h.Bit(h.SrcLocal))), h.Or(h.Bit(h.Misrouted), h.own(h.Dst)))
	} else {
		set = h.Minus(h.And(set, h.interfaces(at.of)), h.Union(own, h.Bit(h.SrcLocal), h.Device(h.In, "lo")))
	}
	// Routing and the lookup of policies see the destination behind DNAT.
	behind := *s
	behind.Dst, behind.DPort = s.RoutedDst, s.RoutedDPort
	r := &host{&behind, c.snapshot, c.in.Set}
	if at.way == firewall.ToHost {
		return h.Minus(h.And(set, r.own(r.Dst)), h.Bit(h.Ahead.Present))
	}
	set = h.Minus(h.Minus(set, r.own(r.Dst)), h.Device(h.Out, "lo"))
	leaving := func(h *host) space.Set {
		with, _ := h.encrypted(at.way, h.And(set, h.routed(h.Dst, h.Out)))
		return with
	}
	if at.way == firewall.Through {
		return leaving(r)
	}
	// A raw socket's lookup of policies has neither protocol nor ports. Filter sees the
	// interface that was found before DNAT.
	for _, policy := range c.snapshot.Policies {
		if policy.Dir == xfrm.Out && policy.Selector.Proto != 0 {
			set = h.Minus(set, h.And(h.LiesIn(h.Src, policy.Selector.Src), h.LiesIn(h.Dst, policy.Selector.Dst)))
		}
	}
	ahead := func(bit int) bool {
		sa := h.Ahead
		return bit == sa.Present || bit == sa.Tunnel || slices.Contains(slices.Concat(sa.Proto, sa.Reqid.Bits, sa.Source.Bits, sa.Destination.Bits), bit)
	}
	return h.And(leaving(r), h.Without(leaving(h), ahead))
}

// same are the packets of both sets or of none.
func (h *host) same(a, b space.Set) space.Set { return h.Or(h.And(a, b), h.Or(a, b).Not()) }

// wellFormed are packets with addresses and of protocols that the test sends.
func (c *kernelRun) wellFormed(h *host) space.Set {
	set := space.All
	for _, f := range []space.Classed{h.Src, h.Dst, h.RoutedDst, h.OrigSrc, h.OrigDst, h.ReplySrc, h.ReplyDst} {
		set = h.Minus(set, h.LiesInAny(f, c.odd()))
	}
	return h.And(set, h.ofProtos(h.Proto, xfrm.TCP, xfrm.UDP, h.ICMP(), xfrm.ESP, xfrm.AH, xfrm.GRE, 253))
}

// ofProtos are packets with one of some protocols in a field. AH is an extension header of
// IPv6, and no protocol there.
func (h *host) ofProtos(f space.Field, protos ...xfrm.Proto) space.Set {
	set := space.None
	for _, proto := range protos {
		if proto != xfrm.AH || h.Family == xfrm.IPv4 {
			set = h.Or(set, h.Number(f, uint64(proto)))
		}
	}
	return set
}

// ofState are the packets of a state that conntrack can be in. ICMP that is related to a flow
// is an error about it: NAT drops any other.
func ofState(s *space.Space) space.Set {
	related, established, reply := s.Bit(s.Related), s.Bit(s.Established), s.Bit(s.Reply)
	isError := s.And(related, s.Quoting())
	set := s.Minus(s.And(related, established).Not(), s.Minus(s.And(related, s.Number(s.Proto, uint64(s.ICMP()))), isError))
	return s.And(set, s.Union(reply.Not(), established, isError))
}

// ofKind are the packets of a kind, in the space of that kind.
func ofKind(s *space.Space, k space.Kind) space.Set {
	h := host{Space: s}
	set := ofState(s)
	for _, b := range []struct {
		bit int
		is  bool
	}{{s.Reply, k.Reply}, {s.SNAT, k.SNAT}, {s.DNAT, k.DNAT}} {
		set = s.And(set, space.Negated(s.Bit(b.bit), !b.is))
	}
	query, answer := uint64(8), uint64(0)
	if s.Family == xfrm.IPv6 {
		query, answer = 128, 129
	}
	icmp := s.Number(s.Proto, uint64(s.ICMP()))
	if !k.Error {
		// Of ICMP conntrack knows questions and answers.
		known := s.Union(s.Bit(s.Related), s.Bit(s.Established), space.TruthOf(k.SNAT || k.DNAT))
		kind := query
		if k.Reply {
			kind = answer
		}
		fits := s.And(s.Number(s.ICMPType, kind), s.Number(s.ICMPCode, 0))
		return s.Minus(set, s.And(s.And(known, icmp), fits.Not()))
	}
	set = s.And(set, s.And(s.Bit(s.Related), s.Quoting()))
	if k.SNAT || k.DNAT { // the kernel drops redirects about such flows
		redirect := s.Number(s.ICMPType, 5)
		if s.Family == xfrm.IPv4 {
			set = s.Minus(set, redirect)
		}
	}
	ported := h.ofProtos(s.FlowProto, xfrm.TCP, xfrm.UDP)
	echo := s.And(s.Number(s.FlowProto, uint64(s.ICMP())), s.Number(s.OrigDPort, query<<8))
	other := s.And(h.ofProtos(s.FlowProto, xfrm.ESP, xfrm.AH, xfrm.GRE, 253), s.And(s.Number(s.OrigSPort, 0), s.Number(s.OrigDPort, 0)))
	return s.And(set, s.Union(ported, echo, other))
}

// ofStates divides the packets of a kind by the state of their flow.
func ofStates(s *space.Space, k space.Kind) []space.Set {
	if k.Error || k.Reply {
		return []space.Set{space.All}
	}
	related, established := s.Bit(s.Related), s.Bit(s.Established)
	return []space.Set{s.Or(related, established).Not(), established, related}
}

// pick returns a packet of a set of a kind, with a client's port of its own where the set
// leaves that open, and false where NAT changes nothing in all of those that were looked at.
func (c *kernelRun) pick(w *evaluate.Firewall, way firewall.Way, k space.Kind, set space.Set) (p firewall.Passage, ok bool) {
	client := w.SPort
	switch {
	case k.Error:
		client = w.OrigSPort
	case k.Reply:
		client = w.RoutedDPort
	}
	try := func(set space.Set) bool {
		c.port = 20000 + (c.port+1)%10000
		if own := w.And(set, w.Number(client, uint64(c.port))); own != space.None {
			set = own
		}
		p = w.Witness(way, set)
		_, ok = flowOf(p)
		return ok
	}
	source := [2]space.Classed{w.OrigSrc, w.ReplyDst}
	mapsSource, mapsDestination := k.SNAT, k.DNAT
	if k.Reply {
		source, mapsSource, mapsDestination = [2]space.Classed{w.ReplySrc, w.OrigDst}, k.DNAT, k.SNAT
	}
	inner := try
	if mapsSource {
		inner = func(set space.Set) bool {
			w.Apart(set, source[1], source[0], try)
			return ok
		}
	}
	if mapsDestination {
		w.Apart(set, w.RoutedDst, w.Dst, inner)
	} else {
		inner(set)
	}
	return p, ok
}

// kernelPath is a path with an arrival.
type kernelPath string

// pathOf is the path of a packet.
func (c *kernelRun) pathOf(e trace.Evaluator, at kernelArrival, p firewall.Passage) kernelPath {
	_, steps := fake.Walk(e, &c.facts, p)
	words := []string{fmt.Sprint(at.way, at.of.In, at.of.Reqid)}
	for _, s := range steps {
		words = append(words, fmt.Sprint(s.Table, s.Chain, s.Index))
	}
	return kernelPath(strings.Join(words, " "))
}

// packets are one of each kind and state on each path, as far as the kernel can have one.
func (c *kernelRun) packets(rs rules.Ruleset, e trace.Evaluator) []kernelPacket {
	arrivals := c.arrivals(rs.Family, e)
	sent := make(map[kernelPath]bool)
	alike := make(map[kernelPath]bool)
	// An ICMP error about a flow with NAT stands for those about flows with other NAT.
	mapped := map[bool]map[kernelPath]bool{false: {}, true: {}}
	var all []kernelPacket
	for _, k := range kernelKinds() {
		w := evaluate.NewOfFlow(rs, &c.facts, c.values(), k)
		kind := ofKind(w.Space, k)
		for _, at := range arrivals {
			for path := range w.Paths(at.way, w.And(kind, c.coming(w.Space, at))) {
				for _, state := range ofStates(w.Space, k) {
					set := w.And(path.Packets, state)
					if set == space.None {
						continue
					}
					p, ok := c.pick(w, at.way, k, set)
					key := c.pathOf(e, at, p)
					if !ok {
						alike[key] = true
						continue
					}
					sent[key] = true
					if k.Error && (k.SNAT || k.DNAT) {
						if mapped[k.Reply][key] {
							continue
						}
						mapped[k.Reply][key] = true
					}
					all = append(all, kernelPacket{Passage: p, outer: at.outer, sa: at.sa})
				}
			}
		}
		c.must(w.Odd())
	}
	w := evaluate.NewFirewall(rs, &c.facts, c.values(), false)
	state := ofState(w.Space)
	unsent := make(map[kernelPath]bool)
	for _, at := range arrivals {
		for path := range w.Paths(at.way, c.coming(w.Space, at)) {
			key := c.pathOf(e, at, w.Witness(at.way, path.Packets))
			if sent[key] || unsent[key] {
				continue
			}
			unsent[key] = true
			switch {
			case alike[key]:
				c.count("unsent: NAT to the same address")
			case w.And(path.Packets, state) == space.None:
				c.count("unsent: no such state")
			default:
				c.count("unsent: the flow is not the packet's")
			}
		}
	}
	c.Paths += len(sent) + len(unsent)
	c.Unsent += len(unsent)
	for _, p := range all {
		c.Packets++
		c.Decrypted += len(p.Path)
		c.Encrypted += len(p.Ahead)
		c.count("sent: " + flowWords(p.Passage))
	}
	return all
}

// flowWords is the kind of a packet by its flow.
func flowWords(p firewall.Passage) string {
	f := p.Flow
	word := "new"
	switch {
	case isError(p):
		word = "ICMP errors"
	case f.Related:
		word = "expected"
	case f.Reply:
		word = "replies"
	case f.Established:
		word = "established"
	}
	if f.SNAT || f.DNAT {
		word += " with NAT"
	}
	return word
}
