package wire

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// IsInterval reports whether the set of a name has intervals, because the kernel
// compares their bounds in network byte order.
type IsInterval func(set string) bool

// CompileRule returns the expressions of a rule, those before each term that it
// implies among them.
func CompileRule(terms []sets.Term, interval IsInterval) []expr {
	var known sets.Implied
	var c compiler
	c.interval = interval
	for _, t := range sets.Canonical(terms) {
		for _, m := range known.Before(t) {
			c.match(m)
		}
		c.term(t)
	}
	return c.out
}

type compiler struct {
	interval IsInterval
	out      []expr
}

func (c *compiler) add(e ...expr) { c.out = append(c.out, e...) }

func (c *compiler) term(t sets.Term) {
	switch t := t.(type) {
	case sets.Match:
		c.match(t)
	case sets.Range:
		c.rangeOf(t)
	case sets.OneOf:
		c.fields([]sets.Field{t.Field}, false)
		c.add(valuesLookup(t))
	case sets.In:
		c.fields(t.Fields, c.interval(t.Set))
		c.add(Lookup{Set: t.Set, sreg: register(0), not: t.Not})
	case sets.Dispatch:
		c.fields(t.Fields, c.interval(t.Map))
		c.add(Lookup{Set: t.Map, sreg: register(0), isMap: true})
	case sets.Update:
		op := uint32(unix.NFT_DYNSET_OP_UPDATE)
		if t.Add {
			op = unix.NFT_DYNSET_OP_ADD
		}
		c.fields(t.Fields, false)
		c.add(dynset{t.Set, register(0), op, uint64(t.Timeout.Milliseconds())})
	case sets.SetMark:
		c.setMark(t)
	case sets.MaxSeg:
		c.maxSeg(t)
	case sets.Counter:
		c.add(counter{})
	case sets.Log:
		c.add(logTo{t.Prefix, t.ToGroup, t.Group})
	case sets.Limit:
		flags := uint32(0)
		if t.Over {
			flags = unix.NFT_LIMIT_F_INV
		}
		c.add(limit{t.Rate, uint64(t.Per / time.Second), t.Burst, unix.NFT_LIMIT_PKTS, flags})
	case sets.Reject:
		c.add(rejects[t.With])
	case sets.SNAT:
		family := uint32(xfrm.IPv4)
		if t.To.Type() == sets.TypeIPv6 {
			family = uint32(xfrm.IPv6)
		}
		c.fields([]sets.Field{t.To}, false)
		c.add(natTo{unix.NFT_NAT_SNAT, family, register(0)})
	case sets.Verdict:
		c.add(verdictOf(t))
	default:
		c.add(Unknown{t.String()})
	}
}

var rejects = map[sets.RejectWith]reject{
	sets.NoRoute:         {nftRejectICMPX, unix.NFT_REJECT_ICMPX_NO_ROUTE},
	sets.PortUnreachable: {nftRejectICMPX, unix.NFT_REJECT_ICMPX_PORT_UNREACH},
	sets.HostUnreachable: {nftRejectICMPX, unix.NFT_REJECT_ICMPX_HOST_UNREACH},
	sets.AdminProhibited: {nftRejectICMPX, unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED},
	sets.TCPReset:        {nftRejectTCPReset, 0},
}

var verdicts = map[sets.VerdictKind]int32{
	sets.Accept: nfAccept,
	sets.Drop:   nfDrop,
	sets.Return: unix.NFT_RETURN,
	sets.Jump:   unix.NFT_JUMP,
	sets.Goto:   unix.NFT_GOTO,
}

func verdictOf(v sets.Verdict) verdict { return verdict{verdicts[v.Do], v.Chain} }

// fields brings fields to registers one behind the other, as a key. Masked
// addresses are masked there.
func (c *compiler) fields(fields []sets.Field, interval bool) {
	word := 0
	for _, f := range fields {
		reg, size := register(word), f.Type().Size()
		c.add(load(f, word))
		if f.Clear != 0 {
			c.add(maskTo(f, reg))
		}
		if interval && f.Type().HostOrder() {
			c.add(byteorder{reg, reg, unix.NFT_BYTEORDER_HTON, uint32(size), uint32(size)})
		}
		word += sets.Pad(size) / 4
	}
}

func maskTo(f sets.Field, reg uint32) expr {
	size := f.Type().Size()
	return bitwise{reg, reg, uint32(size), string(f.Mask().Append(nil)), string(make([]byte, size))}
}

// match compares one field. It compares only the prefix of an address if the prefix is of
// whole bytes.
func (c *compiler) match(m sets.Match) {
	f, reg := m.Field, register(0)
	value := registerBytes(f.Type(), m.Value)
	size := f.Type().Size()
	bytes := size - int(f.Clear)/8
	l := load(f, 0)
	switch {
	case f.Clear != 0 && f.Clear%8 == 0 && bytes > 0:
		if p, ok := l.(payloadLoad); ok {
			p.len = uint32(bytes)
			l = p
		}
		c.add(l)
		value = value[:bytes]
	case f.Clear != 0:
		c.add(l, maskTo(f, reg))
	case m.Mask != 0:
		mask := registerBytes(f.Type(), sets.Number(f.Type(), uint64(m.Mask)))
		c.add(l, bitwise{reg, reg, uint32(size), mask, string(make([]byte, size))})
	default:
		c.add(l)
	}
	c.add(compare{reg, comparisons[m.Op], value})
}

var comparisons = map[sets.Comparison]uint32{
	sets.Eq:  unix.NFT_CMP_EQ,
	sets.Neq: unix.NFT_CMP_NEQ,
	sets.Lt:  unix.NFT_CMP_LT,
	sets.Lte: unix.NFT_CMP_LTE,
	sets.Gt:  unix.NFT_CMP_GT,
	sets.Gte: unix.NFT_CMP_GTE,
}

func (c *compiler) rangeOf(r sets.Range) {
	reg := register(0)
	low, high := registerBytes(r.Field.Type(), r.Low), registerBytes(r.Field.Type(), r.High)
	c.add(load(r.Field, 0))
	if r.Not {
		c.add(rangeOf{reg, unix.NFT_RANGE_NEQ, low, high})
		return
	}
	c.add(compare{reg, unix.NFT_CMP_GTE, low}, compare{reg, unix.NFT_CMP_LTE, high})
}

func (c *compiler) setMark(m sets.SetMark) {
	reg := register(0)
	mark := func(n uint32) data { return registerBytes(sets.TypeMark, sets.Number(sets.TypeMark, uint64(n))) }
	if m.Mask == ^uint32(0) {
		c.add(immediate{reg, mark(m.Value)})
	} else {
		c.add(metaLoad{reg, unix.NFT_META_MARK}, bitwise{reg, reg, 4, mark(^m.Mask), mark(m.Value)})
	}
	c.add(metaSet{reg, unix.NFT_META_MARK})
}

func (c *compiler) maxSeg(m sets.MaxSeg) {
	reg := register(0)
	if m.Size == 0 {
		c.add(rtLoad{reg, unix.NFT_RT_TCPMSS}, byteorder{reg, reg, unix.NFT_BYTEORDER_HTON, 2, 2})
	} else {
		c.add(immediate{reg, string(be.AppendUint16(nil, m.Size))})
	}
	c.add(exthdrWrite{reg, tcpOptMaxseg, 2, 2, unix.NFT_EXTHDR_OP_TCPOPT})
}

// valuesLookup returns the look-up in an anonymous set.
func valuesLookup(o sets.OneOf) Lookup {
	t := o.Field.Type()
	keys := make([]string, len(o.Values))
	for i, v := range o.Values {
		keys[i] = registerBytes(t, v)
	}
	slices.Sort(keys)
	l := Lookup{sreg: register(0), not: o.Not, Size: t.Size(), Type: datatypes[t], order: order(t)}
	for _, k := range keys {
		l.Values += k
	}
	return l
}

// registerBytes returns a value as the kernel holds it in a register.
func registerBytes(t sets.Type, v sets.Value) data {
	b := v.Append(nil)
	if littleEndian && t.HostOrder() {
		slices.Reverse(b)
	}
	return string(b)
}

// order returns the byte order of a type as libnftables numbers it.
func order(t sets.Type) uint32 {
	switch {
	case t.HostOrder(), t == sets.TypeProto, t == sets.TypeFamily, t == sets.TypeName, t == sets.TypeLinkKind, t == sets.TypePacketType, t == sets.TypeCtDirection, t == sets.TypeBool:
		return orderHost
	}
	return orderNetwork
}
