package foreign

import (
	"net/netip"
	"strings"
)

// answer is whether a packet matches, as far as that is known.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func answerOf(b bool) answer {
	if b {
		return yes
	}
	return no
}

func (a answer) not() answer { return yes - a }

// unknown is a value that is not known. absent is a field that the packet lacks: no value
// is equal to it, and none unequal.
type (
	unknown struct{}
	absent  struct{}
	// bits is a number of which only some bits are known.
	bits struct{ value, known uint32 }
	// flags are words of which a packet has some, such as the states of conntrack.
	flags []string
)

func (w *walker) match(value any) answer {
	op, _ := field(value, "op").(string)
	left, right := w.value(field(value, "left")), field(value, "right")
	if _, ok := left.(absent); ok {
		return no
	}
	switch op {
	case "==", "in":
		return w.is(left, right)
	case "!=":
		return w.is(left, right).not()
	}
	return maybe
}

// value is the packet's value for the left side of a match, or a map's key.
func (w *walker) value(left any) any {
	p := w.packet
	kind, v := only(left)
	key, _ := field(v, "key").(string)
	switch kind {
	case "meta":
		return w.meta(key)
	case "rt":
		if key == "ipsec" {
			return p.ToIPsec
		}
	case "ipsec":
		dir, _ := field(v, "dir").(string)
		if dir == "in" && !p.FromIPsec || dir == "out" && !p.ToIPsec {
			return absent{}
		}
	case "ct":
		switch {
		case w.anyFlow:
		case key == "state":
			return flags{"new"}
		case key == "status":
			return flags{}
		}
	case "payload":
		protocol, _ := field(v, "protocol").(string)
		name, _ := field(v, "field").(string)
		if field(v, "tunnel") != nil { // of the packet inside
			return unknown{}
		}
		return w.payload(protocol, name)
	case "&":
		pair, _ := v.([]any)
		if len(pair) != 2 {
			return unknown{}
		}
		mask, ok := number(pair[1])
		b, isBits := w.value(pair[0]).(bits)
		if !ok || !isBits {
			return unknown{}
		}
		return bits{b.value & mask, b.known | ^mask}
	case "concat":
		parts, _ := v.([]any)
		values := make([]any, len(parts))
		for i, part := range parts {
			values[i] = w.value(part)
		}
		return values
	}
	return unknown{}
}

func (w *walker) meta(key string) any {
	p := w.packet
	link := func(name string, none bool) any {
		switch {
		case none:
			return absent{}
		case name == "":
			return unknown{}
		}
		return name
	}
	switch key {
	case "iif", "iifname":
		return link(p.In, p.NoIn)
	case "oif", "oifname":
		return link(p.Out, p.NoOut)
	case "mark":
		return bits{p.Mark, p.Known}
	case "l4proto":
		return protocol(p.Proto)
	case "nfproto":
		return map[bool]string{false: "ipv4", true: "ipv6"}[p.Six]
	case "protocol":
		if w.table.Family == "bridge" || w.table.Family == "netdev" { // a frame of a VLAN has that of VLANs
			return unknown{}
		}
		return map[bool]string{false: "ip", true: "ip6"}[p.Six]
	case "ipsec", "secpath":
		return p.FromIPsec
	}
	return unknown{}
}

func protocol(p uint8) any {
	if p == 0 {
		return unknown{}
	}
	return bits{uint32(p), ^uint32(0)}
}

// payload is a header field. A header that the packet hasn't got matches nothing.
func (w *walker) payload(header, name string) any {
	p := w.packet
	address := func(a netip.Addr) any {
		if !a.IsValid() {
			return unknown{}
		}
		return a
	}
	switch header {
	case "ip", "ip6":
		if (header == "ip6") != p.Six {
			return absent{}
		}
		switch name {
		case "saddr":
			return address(p.Src)
		case "daddr":
			return address(p.Dst)
		case "protocol", "nexthdr":
			return protocol(p.Proto)
		}
	case "udp", "tcp", "th", "sctp", "dccp", "icmp", "icmpv6", "esp", "ah":
		if p.Proto == 0 {
			return unknown{}
		}
		if n, ok := protocols[header]; ok && n != uint32(p.Proto) || header == "th" && p.Proto != udp {
			return absent{}
		}
		if p.Proto != udp {
			return unknown{}
		}
		switch name {
		case "sport":
			return bits{uint32(p.SPort), ^uint32(0)}
		case "dport":
			return bits{uint32(p.DPort), ^uint32(0)}
		}
	}
	return unknown{}
}

const udp = 17

// protocols are the numbers of those that nft prints by name.
var protocols = map[string]uint32{
	"icmp": 1, "igmp": 2, "tcp": 6, "udp": udp, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "icmpv6": 58,
	"comp": 108, "sctp": 132, "udplite": 136,
}

// is compares a value of the packet with the right side of a match.
func (w *walker) is(left, right any) answer {
	switch left := left.(type) {
	case unknown:
		return maybe
	case absent:
		return no
	case flags:
		return left.any(w.elements(right))
	case []any:
		parts, ok := field(right, "concat").([]any)
		if !ok {
			return w.oneOf(left, right)
		}
		result := answerOf(len(parts) == len(left))
		for i := 0; i < len(left) && i < len(parts); i++ {
			result = min(result, w.is(left[i], parts[i]))
		}
		return result
	}
	kind, v := only(right)
	switch {
	case kind == "set", strings.HasPrefix(kind, "@"):
		return w.oneOf(left, right)
	case kind == "prefix", kind == "range":
		return within(left, kind, v)
	}
	switch l := left.(type) {
	case bool:
		r, ok := right.(bool)
		return known(ok, l == r)
	case string:
		r, ok := right.(string)
		if stem, wild := strings.CutSuffix(r, "*"); wild {
			return answerOf(strings.HasPrefix(l, stem))
		}
		return known(ok, l == r)
	case netip.Addr:
		r, ok := right.(string)
		a, err := netip.ParseAddr(r)
		return known(ok && err == nil, l == a)
	case bits:
		r, ok := number(right)
		switch {
		case !ok:
			return maybe
		case (l.value^r)&l.known != 0:
			return no
		}
		return known(l.known == ^uint32(0), true)
	}
	return maybe
}

func known(sure, equal bool) answer {
	if !sure {
		return maybe
	}
	return answerOf(equal)
}

// oneOf asks whether a value is an element of a set.
func (w *walker) oneOf(left, set any) answer {
	elements := w.elements(set)
	if elements == nil {
		return maybe
	}
	result := no
	for _, e := range elements {
		result = max(result, w.is(left, element(e)))
	}
	return result
}

// elements are those of a set: its own, or those of the one that is named.
func (w *walker) elements(set any) []any {
	switch s := set.(type) {
	case []any:
		return s
	case string:
		if name, ok := strings.CutPrefix(s, "@"); ok {
			if elements, ok := w.table.sets[name]; ok && elements == nil {
				return []any{} // an empty set
			}
			return w.table.sets[name]
		}
		return []any{s}
	}
	elements, _ := field(set, "set").([]any)
	return elements
}

func (f flags) any(words []any) answer {
	for _, word := range words {
		for _, have := range f {
			if word == have {
				return yes
			}
		}
	}
	return no
}

// within asks whether a number or address is in a range or prefix.
func within(left any, kind string, v any) answer {
	if kind == "prefix" {
		word, _ := field(v, "addr").(string)
		length, _ := field(v, "len").(float64)
		a, isAddr := left.(netip.Addr)
		network, err := netip.ParseAddr(word)
		if !isAddr || err != nil {
			return maybe
		}
		return answerOf(netip.PrefixFrom(network, int(length)).Contains(a))
	}
	ends, _ := v.([]any)
	if len(ends) != 2 {
		return maybe
	}
	switch l := left.(type) {
	case netip.Addr:
		low, _ := ends[0].(string)
		high, _ := ends[1].(string)
		from, err := netip.ParseAddr(low)
		to, err2 := netip.ParseAddr(high)
		return known(err == nil && err2 == nil, from.Compare(l) <= 0 && l.Compare(to) <= 0)
	case bits:
		low, ok := number(ends[0])
		high, ok2 := number(ends[1])
		return known(ok && ok2 && l.known == ^uint32(0), low <= l.value && l.value <= high)
	}
	return maybe
}

// number reads a number, or the name of a protocol.
func number(v any) (uint32, bool) {
	switch v := v.(type) {
	case float64:
		return uint32(v), v >= 0 && v <= 1<<32-1
	case string:
		n, ok := protocols[v]
		return n, ok
	}
	return 0, false
}
