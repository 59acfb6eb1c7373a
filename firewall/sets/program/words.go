package program

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// family has the fields of one family of addresses.
type family struct {
	xfrm.Family
	suffix                               string
	src, dst                             sets.FieldKind
	origSrc, origDst, replySrc, replyDst sets.FieldKind
	errorType                            sets.FieldKind
	errors                               []uint64 // ICMP errors, all of which quote a packet
	inIP                                 xfrm.Proto
	neverSource, neverDestination        []string
}

var (
	ipv4 = family{
		Family: xfrm.IPv4, suffix: "4", src: sets.Src4, dst: sets.Dst4,
		origSrc: sets.CtOrigSrc4, origDst: sets.CtOrigDst4, replySrc: sets.CtReplySrc4, replyDst: sets.CtReplyDst4,
		errorType: sets.ICMPType, errors: []uint64{3, 4, 5, 11, 12}, inIP: xfrm.IPIP,
		neverSource: []string{"0.0.0.0/32", "169.254.0.0/16"}, neverDestination: []string{"224.0.0.0/4", "255.255.255.255/32", "169.254.0.0/16"},
	}
	ipv6 = family{
		Family: xfrm.IPv6, suffix: "6", src: sets.Src6, dst: sets.Dst6,
		origSrc: sets.CtOrigSrc6, origDst: sets.CtOrigDst6, replySrc: sets.CtReplySrc6, replyDst: sets.CtReplyDst6,
		errorType: sets.ICMPv6Type, errors: []uint64{1, 2, 3, 4}, inIP: xfrm.IPv6in,
		neverSource: []string{"::/128", "fe80::/10"}, neverDestination: []string{"ff00::/8", "fe80::/10"},
	}
)

// has reports whether an address is of the family.
func (f *family) has(a netip.Addr) bool { return a.IsValid() && a.Is4() == (f.Family == xfrm.IPv4) }

// is matches packets of the family.
func (f *family) is() sets.Term { return num(sets.NFProto, uint64(f.Family)) }

func (f *family) icmp() xfrm.Proto {
	if f.Family == xfrm.IPv6 {
		return xfrm.ICMPv6
	}
	return xfrm.ICMP
}

// The ends of a pair in a packet that comes from the remote end, that goes to it,
// and in the flow of an ICMP error.
func (f *family) from() view {
	return view{remote: f.src, local: f.dst, proto: sets.L4Proto, remotePort: sets.SrcPort, locPort: sets.DstPort}
}

func (f *family) to() view {
	return view{remote: f.dst, local: f.src, proto: sets.L4Proto, remotePort: sets.DstPort, locPort: sets.SrcPort}
}

// began is a flow that the remote end began, told by its source in the original
// direction; answered one that it answers. The packet goes to the local end.
func (f *family) began() view {
	return view{remote: f.origSrc, local: f.dst, proto: sets.CtProto, remotePort: sets.CtOrigSrcPort, locPort: sets.CtOrigDstPort}
}

func (f *family) answered() view {
	return view{remote: f.replySrc, local: f.dst, proto: sets.CtProto, remotePort: sets.CtOrigDstPort, locPort: sets.CtOrigSrcPort}
}

// at is the view of an SA at a depth.
func (v view) at(depth uint8) view {
	v.depth = depth
	return v
}

func num(k sets.FieldKind, n uint64) sets.Match { return sets.EqualsNumber(k, n) }

func within(k sets.FieldKind, p netip.Prefix) sets.Term { return inside(k, p) }

// inside matches addresses in a prefix, or of its family where that is everything.
func inside(k sets.FieldKind, p netip.Prefix) sets.Match {
	if p.Bits() == 0 {
		return num(sets.NFProto, uint64(xfrm.FamilyOf(p.Addr())))
	}
	return sets.Match{Field: sets.F(k).Masked(p.Bits()), Value: sets.Addr(p.Masked().Addr())}
}

func is(k sets.FieldKind, name string) sets.Term { return sets.Equals(k, sets.Name(name)) }

func oneOf(k sets.FieldKind, numbers ...uint64) sets.Term {
	o := sets.OneOf{Field: sets.F(k)}
	for _, n := range numbers {
		o.Values = append(o.Values, sets.Number(o.Field.Type(), n))
	}
	return o
}

// named matches one of several interfaces.
func named(k sets.FieldKind, names []string) sets.Term {
	o := sets.OneOf{Field: sets.F(k)}
	for _, n := range names {
		o.Values = append(o.Values, sets.Name(n))
	}
	return o
}

func jump(chain string) sets.Term   { return sets.Verdict{Do: sets.Jump, Chain: chain} }
func leadTo(chain string) sets.Term { return sets.Verdict{Do: sets.Goto, Chain: chain} }

var (
	back      = sets.Verdict{Do: sets.Return}
	decrypted = sets.Exists(sets.SecPath)
	inClear   = sets.Missing(sets.SecPath)
	encrypted = sets.Exists(sets.RouteIPsec)
	leaves    = sets.Missing(sets.RouteIPsec)
	related   = sets.AnyBit(sets.CtState, sets.Related)
	replies   = sets.AnyBit(sets.CtState, sets.Related|sets.Established)
	original  = num(sets.CtDirection, 0)
)

// rule makes a rule with a comment on its purpose.
func rule(comment string, terms ...sets.Term) sets.Rule {
	return sets.Rule{Terms: terms, Comment: comment}
}

// and puts terms behind those that are found first.
func and(first []sets.Term, then ...sets.Term) []sets.Term {
	return append(append(make([]sets.Term, 0, len(first)+len(then)), first...), then...)
}

// each makes one rule of each lookup.
func each(comment string, lookups [][]sets.Term, then ...sets.Term) []sets.Rule {
	rules := make([]sets.Rule, len(lookups))
	for i, l := range lookups {
		rules[i] = rule(comment, and(l, then...)...)
	}
	return rules
}

func field(k sets.FieldKind) []sets.Field { return []sets.Field{sets.F(k)} }

// view says which fields of a packet are the ends of a pair at one place.
type view struct {
	remote, local              sets.FieldKind
	proto, remotePort, locPort sets.FieldKind
	depth                      uint8
}
