package rules

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"
	"unique"
)

// List is an immutable list of rules in a compact form: a gateway
// has a hundred thousand rules that differ in little more than addresses, reqid
// and tunnel, and a daemon keeps rule sets for long. The zero value is
// an empty list. Equal lists are deeply equal.
type List struct{ list *ruleList }

// ruleList holds rules as the shape of each, which is its common part with
// many others, and the rest as bytes.
type ruleList struct {
	n      int
	shapes []unique.Handle[Rule]
	data   string
	// leads are the chains that the rules lead to, each once.
	leads []string
	// inert is true if no rule does more than leave the chain.
	inert bool
}

// The fields that are no part of a shape, in their order within the bytes.
const (
	packSrc uint16 = 1 << iota
	packDst
	packOrigSrc
	packOrigDst
	packReplSrc
	packReplDst
	packReqid
	packTunnelSrc
	packTunnelDst
	packChain
	packTunnel
)

// ListOf makes a list.
func ListOf(rules ...Rule) List {
	if len(rules) == 0 {
		return List{}
	}
	l := &ruleList{n: len(rules), inert: true}
	p := packer{list: l}
	data := make([]byte, 0, 48*len(rules))
	for i := range rules {
		data = p.rule(data, rules[i])
	}
	l.data = string(data)
	return List{l}
}

// Len is the number of rules.
func (r List) Len() int {
	if r.list == nil {
		return 0
	}
	return r.list.n
}

// All yields the rules in their order.
func (r List) All() iter.Seq2[int, Rule] {
	return func(yield func(int, Rule) bool) {
		if r.list == nil {
			return
		}
		u := unpacker{list: r.list, data: r.list.data}
		for i := range r.list.n {
			if !yield(i, u.rule()) {
				return
			}
		}
	}
}

// Slice returns the rules, as a slice of the caller's own.
func (r List) Slice() []Rule {
	rules := make([]Rule, 0, r.Len())
	for _, rule := range r.All() {
		rules = append(rules, rule)
	}
	return rules
}

// Leads returns the chains that the rules lead to, each once.
func (r List) Leads() []string {
	if r.list == nil {
		return nil
	}
	return r.list.leads
}

// Inert reports whether no rule does more than leave the chain.
func (r List) Inert() bool { return r.list == nil || r.list.inert }

// Equal compares two lists.
func (r List) Equal(o List) bool {
	if r.list == o.list {
		return true
	}
	return r.list != nil && o.list != nil && r.list.n == o.list.n && r.list.data == o.list.data &&
		slices.Equal(r.list.shapes, o.list.shapes)
}

// Same reports whether two lists are one in memory.
func (r List) Same(o List) bool { return r.list == o.list }

// packer puts rules into a list.
type packer struct {
	list *ruleList
	// seen are the shapes so far, the last one of which most rules have again.
	seen  []Rule
	index map[Rule]int
}

func (p *packer) rule(b []byte, r Rule) []byte {
	if r.Leads() && !slices.Contains(p.list.leads, r.Target.Chain) {
		p.list.leads = append(p.list.leads, r.Target.Chain)
	}
	p.list.inert = p.list.inert && r.Target.Verb == Return
	var rest [160]byte
	fields := rest[:0]
	var has uint16
	for i, at := range r.prefixes() {
		if *at != (netip.Prefix{}) && at.IsValid() {
			has |= packSrc << i
			fields = packAddr(fields, at.Addr(), at.Bits())
			*at = netip.Prefix{}
		}
	}
	if r.Policy.Reqid != 0 {
		has |= packReqid
		fields = binary.AppendUvarint(fields, uint64(r.Policy.Reqid))
		r.Policy.Reqid = 0
	}
	for i, at := range [...]*netip.Prefix{&r.Policy.TunnelSrc, &r.Policy.TunnelDst} {
		if *at != (netip.Prefix{}) && at.IsValid() {
			has |= packTunnelSrc << i
			fields = packAddr(fields, at.Addr(), at.Bits())
			*at = netip.Prefix{}
		}
	}
	for i, at := range [...]*string{&r.Target.Chain, &r.Tunnel} {
		if *at != "" && len(*at) < 128 {
			has |= packChain << i
			fields = append(append(fields, byte(len(*at))), *at...)
			*at = ""
		}
	}
	b = binary.AppendUvarint(b, uint64(p.shape(r)))
	b = binary.AppendUvarint(b, uint64(has))
	return append(b, fields...)
}

// shape returns the place of a shape in the list.
func (p *packer) shape(r Rule) int {
	n := len(p.seen)
	if n > 0 && p.seen[n-1] == r {
		return n - 1
	}
	if n <= 8 {
		if i := slices.Index(p.seen, r); i >= 0 {
			return i
		}
	} else if i, ok := p.index[r]; ok {
		return i
	}
	p.seen = append(p.seen, r)
	p.list.shapes = append(p.list.shapes, unique.Make(r))
	if n == 8 {
		p.index = make(map[Rule]int)
		for i, s := range p.seen {
			p.index[s] = i
		}
	} else if n > 8 {
		p.index[r] = n
	}
	return n
}

func (r *Rule) prefixes() [6]*netip.Prefix {
	return [...]*netip.Prefix{&r.Src, &r.Dst, &r.Ct.OrigSrc, &r.Ct.OrigDst, &r.Ct.ReplSrc, &r.Ct.ReplDst}
}

// packAddr appends the number of bits and the address. The first byte tells the
// family: it is 0 for IPv6, which has up to 128 bits.
func packAddr(b []byte, a netip.Addr, bits int) []byte {
	if a.Is4() {
		four := a.As4()
		return append(append(b, 1<<7|byte(bits)), four[:]...)
	}
	sixteen := a.As16()
	return append(append(b, 0, byte(bits)), sixteen[:]...)
}

// unpacker takes rules out of a list.
type unpacker struct {
	list *ruleList
	data string
}

func (u *unpacker) rule() Rule {
	r := u.list.shapes[u.uvarint()].Value()
	has := uint16(u.uvarint())
	for i, at := range r.prefixes() {
		if has&(packSrc<<i) != 0 {
			a, bits := u.addr()
			*at = netip.PrefixFrom(a, bits)
		}
	}
	if has&packReqid != 0 {
		r.Policy.Reqid = uint32(u.uvarint())
	}
	for i, at := range [...]*netip.Prefix{&r.Policy.TunnelSrc, &r.Policy.TunnelDst} {
		if has&(packTunnelSrc<<i) != 0 {
			a, bits := u.addr()
			*at = netip.PrefixFrom(a, bits)
		}
	}
	if has&packChain != 0 {
		r.Target.Chain = u.text()
	}
	if has&packTunnel != 0 {
		r.Tunnel = u.text()
	}
	return r
}

func (u *unpacker) uvarint() (v uint64) {
	for shift := 0; ; shift += 7 {
		c := u.data[0]
		u.data = u.data[1:]
		v |= uint64(c&0x7f) << shift
		if c < 1<<7 {
			return v
		}
	}
}

func (u *unpacker) addr() (netip.Addr, int) {
	if first := u.data[0]; first != 0 {
		a := netip.AddrFrom4([4]byte([]byte(u.data[1:5])))
		u.data = u.data[5:]
		return a, int(first &^ (1 << 7))
	}
	bits := int(u.data[1])
	a := netip.AddrFrom16([16]byte([]byte(u.data[2:18])))
	u.data = u.data[18:]
	return a, bits
}

func (u *unpacker) text() string {
	n := int(u.data[0])
	s := u.data[1 : 1+n]
	u.data = u.data[1+n:]
	return s
}
