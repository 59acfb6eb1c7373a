package sets

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Field is a value of a packet, of its connection, its route or the SAs that it
// came out of or is going into.
type Field struct {
	Kind FieldKind
	// Depth chooses one of the packet's SAs (spnum of nft): inbound 0 is the
	// outermost, outbound 0 the innermost. Only fields of SAs have a depth.
	Depth uint8
	// Clear is the number of low bits of an address that are set to zero, so that a
	// prefix is left.
	Clear uint8
}

// FieldKind says which value a Field is.
type FieldKind uint8

// The fields. The doc comment of each group names the words of nft.
const (
	_ FieldKind = iota
	// Of the packet (meta).
	NFProto    // meta nfproto
	L4Proto    // meta l4proto
	Mark       // meta mark
	InIndex    // iif
	OutIndex   // oif
	InName     // iifname
	OutName    // oifname
	InKind     // meta iifkind
	OutKind    // meta oifkind
	SecPath    // meta ipsec: the packet came out of an SA
	PacketType // meta pkttype
	InType     // meta iiftype: the match that others imply
	// Of its headers.
	EtherSrc // ether saddr
	EtherDst // ether daddr
	Src4     // ip saddr
	Dst4     // ip daddr
	Proto4   // ip protocol
	Src6     // ip6 saddr
	Dst6     // ip6 daddr
	SrcPort  // th sport: of any protocol with ports
	DstPort  // th dport
	TCPSrc   // tcp sport
	TCPDst   // tcp dport
	TCPFlags // tcp flags
	TCPMSS   // tcp option maxseg size
	UDPSrc   // udp sport
	UDPDst   // udp dport
	ICMPType // icmp type
	ICMPv6Type
	// Of the SAs that it came out of (ipsec in) and is going into (ipsec out).
	InReqid
	InSPI
	InOuterSrc4 // ipsec in ip saddr
	InOuterDst4
	InOuterSrc6
	InOuterDst6
	OutReqid
	OutSPI
	OutOuterSrc4
	OutOuterDst4
	OutOuterSrc6
	OutOuterDst6
	// Of its route (rt, fib).
	RouteIPsec   // rt ipsec: the packet is going into an SA
	FibSrcInput  // fib saddr . iif oif: the source is reached by the input interface
	FibSrcType   // fib saddr type
	FibDstType   // fib daddr type
	FibDstOutput // fib daddr oif: there is a route to the destination
	// Of its connection (ct).
	CtState
	CtStatus
	CtDirection
	CtMark
	CtProto
	CtOrigSrc4 // ct original ip saddr
	CtOrigDst4
	CtOrigSrc6
	CtOrigDst6
	CtOrigSrcPort // ct original proto-src
	CtOrigDstPort
	CtReplySrc4
	CtReplyDst4
	CtReplySrc6
	CtReplyDst6
	CtReplySrcPort
	CtReplyDstPort
	numFieldKinds
)

// fieldInfo is all that this package knows of a field.
type fieldInfo struct {
	// words are nft's; %d is where the depth goes.
	words string
	typ   Type
	// family and proto are matches that nft and the kernel need before the field:
	// the header is there only in such packets.
	family xfrm.Family
	proto  xfrm.Proto
	ether  bool
}

var fields = [numFieldKinds]fieldInfo{
	NFProto:    {words: "meta nfproto", typ: TypeFamily},
	L4Proto:    {words: "meta l4proto", typ: TypeProto},
	Mark:       {words: "meta mark", typ: TypeMark},
	InIndex:    {words: "iif", typ: TypeIndex},
	OutIndex:   {words: "oif", typ: TypeIndex},
	InName:     {words: "iifname", typ: TypeName},
	OutName:    {words: "oifname", typ: TypeName},
	InKind:     {words: "meta iifkind", typ: TypeLinkKind},
	OutKind:    {words: "meta oifkind", typ: TypeLinkKind},
	SecPath:    {words: "meta ipsec", typ: TypeBool},
	PacketType: {words: "meta pkttype", typ: TypePacketType},
	InType:     {words: "meta iiftype", typ: typeLinkType},

	EtherSrc:   {words: "ether saddr", typ: TypeEther, ether: true},
	EtherDst:   {words: "ether daddr", typ: TypeEther, ether: true},
	Src4:       {words: "ip saddr", typ: TypeIPv4, family: xfrm.IPv4},
	Dst4:       {words: "ip daddr", typ: TypeIPv4, family: xfrm.IPv4},
	Proto4:     {words: "ip protocol", typ: TypeProto, family: xfrm.IPv4},
	Src6:       {words: "ip6 saddr", typ: TypeIPv6, family: xfrm.IPv6},
	Dst6:       {words: "ip6 daddr", typ: TypeIPv6, family: xfrm.IPv6},
	SrcPort:    {words: "th sport", typ: TypePort},
	DstPort:    {words: "th dport", typ: TypePort},
	TCPSrc:     {words: "tcp sport", typ: TypePort, proto: xfrm.TCP},
	TCPDst:     {words: "tcp dport", typ: TypePort, proto: xfrm.TCP},
	TCPFlags:   {words: "tcp flags", typ: TypeTCPFlags, proto: xfrm.TCP},
	TCPMSS:     {words: "tcp option maxseg size", typ: TypeMSS},
	UDPSrc:     {words: "udp sport", typ: TypePort, proto: xfrm.UDP},
	UDPDst:     {words: "udp dport", typ: TypePort, proto: xfrm.UDP},
	ICMPType:   {words: "icmp type", typ: TypeICMP, family: xfrm.IPv4, proto: xfrm.ICMP},
	ICMPv6Type: {words: "icmpv6 type", typ: TypeICMPv6, family: xfrm.IPv6, proto: xfrm.ICMPv6},

	InReqid:      {words: "ipsec in%d reqid", typ: TypeReqid},
	InSPI:        {words: "ipsec in%d spi", typ: TypeSPI},
	InOuterSrc4:  {words: "ipsec in%d ip saddr", typ: TypeIPv4},
	InOuterDst4:  {words: "ipsec in%d ip daddr", typ: TypeIPv4},
	InOuterSrc6:  {words: "ipsec in%d ip6 saddr", typ: TypeIPv6},
	InOuterDst6:  {words: "ipsec in%d ip6 daddr", typ: TypeIPv6},
	OutReqid:     {words: "ipsec out%d reqid", typ: TypeReqid},
	OutSPI:       {words: "ipsec out%d spi", typ: TypeSPI},
	OutOuterSrc4: {words: "ipsec out%d ip saddr", typ: TypeIPv4},
	OutOuterDst4: {words: "ipsec out%d ip daddr", typ: TypeIPv4},
	OutOuterSrc6: {words: "ipsec out%d ip6 saddr", typ: TypeIPv6},
	OutOuterDst6: {words: "ipsec out%d ip6 daddr", typ: TypeIPv6},

	RouteIPsec:   {words: "rt ipsec", typ: TypeBool},
	FibSrcInput:  {words: "fib saddr . iif oif", typ: TypeFound},
	FibSrcType:   {words: "fib saddr type", typ: TypeAddrType},
	FibDstType:   {words: "fib daddr type", typ: TypeAddrType},
	FibDstOutput: {words: "fib daddr oif", typ: TypeFound},

	CtState:        {words: "ct state", typ: TypeCtState},
	CtStatus:       {words: "ct status", typ: TypeCtStatus},
	CtDirection:    {words: "ct direction", typ: TypeCtDirection},
	CtMark:         {words: "ct mark", typ: TypeMark},
	CtProto:        {words: "ct protocol", typ: TypeProto},
	CtOrigSrc4:     {words: "ct original ip saddr", typ: TypeIPv4},
	CtOrigDst4:     {words: "ct original ip daddr", typ: TypeIPv4},
	CtOrigSrc6:     {words: "ct original ip6 saddr", typ: TypeIPv6},
	CtOrigDst6:     {words: "ct original ip6 daddr", typ: TypeIPv6},
	CtOrigSrcPort:  {words: "ct original proto-src", typ: TypePort},
	CtOrigDstPort:  {words: "ct original proto-dst", typ: TypePort},
	CtReplySrc4:    {words: "ct reply ip saddr", typ: TypeIPv4},
	CtReplyDst4:    {words: "ct reply ip daddr", typ: TypeIPv4},
	CtReplySrc6:    {words: "ct reply ip6 saddr", typ: TypeIPv6},
	CtReplyDst6:    {words: "ct reply ip6 daddr", typ: TypeIPv6},
	CtReplySrcPort: {words: "ct reply proto-src", typ: TypePort},
	CtReplyDstPort: {words: "ct reply proto-dst", typ: TypePort},
}

// F returns the field of a kind.
func F(k FieldKind) Field { return Field{Kind: k} }

// At returns the field of the SA at a depth.
func (f Field) At(depth uint8) Field {
	f.Depth = depth
	return f
}

// Masked returns an address field with all bits behind a prefix length cleared.
func (f Field) Masked(bits int) Field {
	f.Clear = uint8(f.Type().Size()*8 - bits)
	return f
}

// Type returns the type of the field's values.
func (f Field) Type() Type {
	if f.Kind < numFieldKinds {
		return fields[f.Kind].typ
	}
	return 0
}

// OfSA reports whether the field belongs to an SA of the packet, so that it may
// have a depth.
func (f Field) OfSA() bool { return f.Kind >= InReqid && f.Kind <= OutOuterDst6 }

// Needs returns the family and the protocol that a rule must have matched before
// it may look at the field, 0 for any, and whether it must have matched an
// Ethernet device.
func (f Field) Needs() (family xfrm.Family, proto xfrm.Proto, ether bool) {
	if f.Kind >= numFieldKinds {
		return 0, 0, false
	}
	i := &fields[f.Kind]
	return i.family, i.proto, i.ether
}

// String returns the words of nft.
func (f Field) String() string {
	if f.Kind == 0 || f.Kind >= numFieldKinds {
		return fmt.Sprintf("field-%d", f.Kind)
	}
	words := fields[f.Kind].words
	if f.OfSA() {
		depth := ""
		if f.Depth != 0 {
			depth = fmt.Sprintf(" spnum %d", f.Depth)
		}
		words = replaceDepth(words, depth)
	}
	if f.Clear != 0 {
		words += " & " + maskOf(f).text(f.Type())
	}
	return words
}
