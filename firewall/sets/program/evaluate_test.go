package program

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// evaluator runs packets through a table as the kernel would.
type evaluator struct {
	table  sets.Table
	chains map[string]*sets.Chain
	sets   map[string]*sets.Set
	found  map[string]map[sets.Key]sets.Element
	// wiped are the bits of the mark that another program clears behind pre.
	wiped uint32
}

func newEvaluator(t sets.Table) *evaluator {
	e := &evaluator{table: t, chains: map[string]*sets.Chain{}, sets: map[string]*sets.Set{}, found: map[string]map[sets.Key]sets.Element{}}
	for i := range t.Chains {
		e.chains[t.Chains[i].Name] = &t.Chains[i]
	}
	for i := range t.Sets {
		s := &t.Sets[i]
		e.sets[s.Name] = s
		e.found[s.Name] = make(map[sets.Key]sets.Element)
		for _, x := range s.Elements {
			e.found[s.Name][x.Key] = x
		}
	}
	return e
}

// at is a packet at one hook.
type at struct {
	*firewall.Passage
	ends    firewall.Ends
	in, out string
	mark    uint32
	path    []xfrm.Transform
	ahead   []xfrm.Transform
	// sourceLocal is true for a source of this host, behind NAT for the one that is sent, and
	// local for a destination.
	sourceLocal, local bool
	vrfs               []string
	trail              []string
}

type outcome uint8

const (
	goOn outcome = iota
	returned
	accepted
	dropped
	refused
)

// chain evaluates a chain. A goto ends it with the outcome of the other chain, and the
// end of a chain returns.
func (e *evaluator) chain(name string, p *at) outcome {
	c := e.chains[name]
	for i := range c.Rules {
		r := &c.Rules[i]
		result, matched := e.rule(r, p)
		if !matched {
			continue
		}
		p.trail = append(p.trail, name+": "+r.String())
		if result != goOn {
			return result
		}
	}
	return returned
}

func (e *evaluator) rule(r *sets.Rule, p *at) (outcome, bool) {
	for _, t := range r.Terms {
		switch t := t.(type) {
		case sets.Verdict:
			return e.verdict(t, p), true
		case sets.Reject:
			return refused, true
		case sets.SNAT:
			return accepted, true
		case sets.SetMark:
			p.mark = p.mark&^t.Mask | t.Value
		case sets.Dispatch:
			key, ok := p.key(t.Fields)
			x, found := e.found[t.Map][key]
			if !ok || !found {
				return goOn, false
			}
			return e.verdict(x.Verdict, p), true
		case sets.Counter, sets.Log, sets.Limit, sets.MaxSeg, sets.Update:
		default:
			if !e.matches(t, p) {
				return goOn, false
			}
		}
	}
	return goOn, true
}

func (e *evaluator) verdict(v sets.Verdict, p *at) outcome {
	switch v.Do {
	case sets.Accept:
		return accepted
	case sets.Drop:
		return dropped
	case sets.Jump:
		if o := e.chain(v.Chain, p); o != returned {
			return o
		}
		return goOn
	case sets.Goto:
		return e.chain(v.Chain, p)
	}
	return returned
}

func (e *evaluator) matches(t sets.Term, p *at) bool {
	switch t := t.(type) {
	case sets.Match:
		v, ok := p.value(t.Field)
		if !ok {
			return false
		}
		if t.Mask != 0 {
			v = sets.Number(t.Field.Type(), v.Uint()&uint64(t.Mask))
		}
		if name := t.Value.Append(nil); t.Field.Type() == sets.TypeName && len(name) < 16 {
			return strings.HasPrefix(string(v.Append(nil)), string(name)) == (t.Op == sets.Eq)
		}
		order := v.Compare(t.Value)
		return [...]bool{order == 0, order != 0, order < 0, order <= 0, order > 0, order >= 0}[t.Op]
	case sets.Range:
		v, ok := p.value(t.Field)
		return ok && (v.Compare(t.Low) >= 0 && v.Compare(t.High) <= 0) != t.Not
	case sets.OneOf:
		v, ok := p.value(t.Field)
		return ok && slices.Contains(t.Values, v) != t.Not
	case sets.In:
		key, ok := p.key(t.Fields)
		return ok && e.holds(t.Set, key) != t.Not
	}
	panic("no such term: " + t.String())
}

func (e *evaluator) holds(name string, key sets.Key) bool {
	s := e.sets[name]
	if !s.Interval {
		_, ok := e.found[name][key]
		return ok
	}
	values := key.Values(s.Key)
	return slices.ContainsFunc(s.Elements, func(x sets.Element) bool {
		first, last := x.Key.Values(s.Key), x.Last.Values(s.Key)
		for i, v := range values {
			if v.Compare(first[i]) < 0 || v.Compare(last[i]) > 0 {
				return false
			}
		}
		return true
	})
}

func (p *at) key(fields []sets.Field) (sets.Key, bool) {
	values := make([]sets.Value, len(fields))
	for i, f := range fields {
		v, ok := p.value(f)
		if !ok {
			return "", false
		}
		values[i] = v
	}
	return sets.KeyOf(values...), true
}

// value returns a field of the packet, and false where the kernel would break off
// the rule.
func (p *at) value(f sets.Field) (sets.Value, bool) {
	t := f.Type()
	if t == sets.TypeIPv4 || t == sets.TypeIPv6 {
		a := p.addr(f)
		if !a.IsValid() || a.Is4() != (t == sets.TypeIPv4) {
			return sets.Value{}, false
		}
		prefix := netip.PrefixFrom(a, a.BitLen()-int(f.Clear))
		return sets.Addr(prefix.Masked().Addr()), true
	}
	if t == sets.TypeName || t == sets.TypeLinkKind {
		name, ok := p.name(f.Kind)
		return sets.Name(name), ok
	}
	n, ok := p.number(f)
	return sets.Number(t, n), ok
}

func (p *at) name(k sets.FieldKind) (string, bool) {
	switch k {
	case sets.InName:
		return p.in, p.in != ""
	case sets.OutName:
		return p.out, p.out != ""
	case sets.OutKind:
		if slices.Contains(p.vrfs, p.out) {
			return "vrf", true
		}
	}
	return "", true
}

func (p *at) addr(f sets.Field) netip.Addr {
	// The kernel gives outer addresses in tunnel mode alone (xfrm_state_addr_ok).
	sa := func(path []xfrm.Transform) xfrm.Transform {
		if int(f.Depth) < len(path) && path[f.Depth].Mode == xfrm.TunnelMode {
			return path[f.Depth]
		}
		return xfrm.Transform{}
	}
	switch f.Kind {
	case sets.Src4, sets.Src6:
		return p.ends.Src
	case sets.Dst4, sets.Dst6:
		return p.ends.Dst
	case sets.CtOrigSrc4, sets.CtOrigSrc6:
		return p.Flow.OrigSrc
	case sets.CtOrigDst4, sets.CtOrigDst6:
		return p.Flow.OrigDst
	case sets.CtReplySrc4, sets.CtReplySrc6:
		return p.Flow.ReplySrc
	case sets.CtReplyDst4, sets.CtReplyDst6:
		return p.Flow.ReplyDst
	case sets.InOuterSrc4, sets.InOuterSrc6:
		return sa(p.path).Src
	case sets.InOuterDst4, sets.InOuterDst6:
		return sa(p.path).Dst
	case sets.OutOuterSrc4, sets.OutOuterSrc6:
		return sa(p.ahead).Src
	case sets.OutOuterDst4, sets.OutOuterDst6:
		return sa(p.ahead).Dst
	}
	return netip.Addr{}
}

func (p *at) number(f sets.Field) (uint64, bool) {
	truth := func(is bool) (uint64, bool) {
		if is {
			return 1, true
		}
		return 0, true
	}
	port := func(of xfrm.Proto, n uint16) (uint64, bool) { return uint64(n), p.Proto == of }
	icmp := p.Proto == xfrm.ICMP || p.Proto == xfrm.ICMPv6
	switch f.Kind {
	case sets.NFProto:
		if p.ends.Src.Is4() {
			return uint64(xfrm.IPv4), true
		}
		return uint64(xfrm.IPv6), true
	case sets.L4Proto:
		return uint64(p.Proto), true
	case sets.Mark:
		return uint64(p.mark), true
	case sets.InIndex:
		return index(p.in), p.in != ""
	case sets.OutIndex:
		return index(p.out), p.out != ""
	case sets.SecPath:
		return truth(len(p.path) > 0)
	case sets.RouteIPsec:
		return truth(len(p.ahead) > 0)
	case sets.FibSrcInput:
		return truth(!p.FailsRPFilter)
	case sets.FibDstType:
		return 1 + boolean(p.local), true
	case sets.FibSrcType:
		return 1 + boolean(p.sourceLocal), true
	case sets.SrcPort:
		if icmp {
			return uint64(p.ICMPType)<<8 | uint64(p.ICMPCode), true
		}
		return uint64(p.ends.SPort), true
	case sets.DstPort:
		return uint64(p.ends.DPort), true
	case sets.UDPSrc:
		return port(xfrm.UDP, p.ends.SPort)
	case sets.UDPDst:
		return port(xfrm.UDP, p.ends.DPort)
	case sets.TCPSrc:
		return port(xfrm.TCP, p.ends.SPort)
	case sets.TCPDst:
		return port(xfrm.TCP, p.ends.DPort)
	case sets.TCPFlags:
		return 2, p.Proto == xfrm.TCP
	case sets.ICMPType:
		return uint64(p.ICMPType), p.Proto == xfrm.ICMP
	case sets.ICMPv6Type:
		return uint64(p.ICMPType), p.Proto == xfrm.ICMPv6
	case sets.InReqid:
		if int(f.Depth) < len(p.path) {
			return uint64(p.path[f.Depth].Reqid), true
		}
		return 0, false
	case sets.OutReqid:
		if int(f.Depth) < len(p.ahead) {
			return uint64(p.ahead[f.Depth].Reqid), true
		}
		return 0, false
	case sets.CtProto:
		return uint64(p.Flow.Proto), true
	case sets.CtOrigSrcPort:
		return uint64(p.Flow.OrigSPort), true
	case sets.CtOrigDstPort:
		return uint64(p.Flow.OrigDPort), true
	case sets.CtDirection:
		return boolean(p.Flow.Reply), true
	case sets.CtStatus:
		return boolean(p.Flow.SNAT)*sets.SNATed | boolean(p.Flow.DNAT)*sets.DNATed, true
	case sets.CtState:
		switch {
		case p.Flow.Related:
			return sets.Related, true
		case p.Flow.Established:
			return sets.Established, true
		}
		return sets.New, true
	}
	panic("no such field: " + f.String())
}

func boolean(is bool) uint64 {
	if is {
		return 1
	}
	return 0
}

func index(name string) uint64 {
	if name == "lo" {
		return 1
	}
	return 2
}

// walk sends a passage through the base chains. It returns the outcome, and whether the
// packet is verified when filter sees it.
func (e *evaluator) walk(f *firewall.Facts, passage firewall.Passage) (o outcome, verified bool, trail []string) {
	p := &at{Passage: &passage, ends: passage.Received, in: passage.In, path: passage.Path, local: passage.DstLocal, sourceLocal: passage.SrcLocal, vrfs: f.VRFs}
	p.mark = uint32(boolean(passage.Tagged))*f.Marks.Tag | uint32(boolean(passage.Verified))*f.Marks.Verified
	chains := []string{"pre", "offload", "input_"}
	switch passage.Way {
	case firewall.Through:
		chains = []string{"pre", "offload", "forward_", "post"}
	case firewall.FromHost:
		p.mark, p.in = 0, ""
		chains = []string{"output_", "post"}
	}
	for _, name := range chains {
		switch name {
		case "input_", "forward_", "output_":
			p.mark = p.mark&^e.wiped | passage.Mark
			p.ends, p.ahead, p.local = passage.AfterDNAT, passage.Ahead, passage.Way == firewall.ToHost
			if passage.Way != firewall.ToHost {
				p.out = passage.Out
			}
		case "post":
			verified = verified || p.mark&f.Marks.Verified != 0
			p.ends, p.ahead = passage.Sent, passage.AheadSent
			if passage.Sent.Src != passage.AfterDNAT.Src { // NAT gives this host's addresses
				p.sourceLocal = true
			}
		}
		if e.chains[name] == nil {
			continue
		}
		if o = e.chain(name, p); o == dropped || o == refused {
			return o, false, p.trail
		}
	}
	return goOn, p.mark&f.Marks.Verified != 0, p.trail
}
