package prove

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// kernelTuple is one direction of a flow, as conntrack finds it: two packets with equal
// tuples are of one flow.
type kernelTuple struct {
	proto    xfrm.Proto
	src, dst netip.AddrPort
	// kind and code are those of ICMP, of which the source has the identifier as its port.
	kind, code uint8
}

// inverse is the tuple of an answer without NAT.
func (t kernelTuple) inverse() kernelTuple {
	t.src, t.dst = t.dst, t.src
	if t.proto.IsICMP() {
		id := t.dst.Port()
		t.src, t.dst = netip.AddrPortFrom(t.src.Addr(), id), netip.AddrPortFrom(t.dst.Addr(), 0)
		t.kind = answeredBy(t.proto, t.kind)
	}
	return t
}

// answeredBy is the type of the answer to a query, or of the query of an answer.
func answeredBy(proto xfrm.Proto, kind uint8) uint8 {
	pairs := [][2]uint8{{8, 0}, {13, 14}, {15, 16}, {17, 18}}
	if proto == xfrm.ICMPv6 {
		pairs = [][2]uint8{{128, 129}, {139, 140}}
	}
	for _, p := range pairs {
		switch kind {
		case p[0]:
			return p[1]
		case p[1]:
			return p[0]
		}
	}
	return kind
}

// packet is a packet of the tuple. One of TCP asks for a connection, or answers.
func (t kernelTuple) packet(answers bool) lab.Packet {
	switch t.proto {
	case xfrm.TCP:
		flags := byte(0x02)
		if answers {
			flags = 0x12
		}
		return lab.TCPPacket(t.src, t.dst, flags)
	case xfrm.UDP:
		return lab.UDPPacket(t.src, t.dst, "path")
	case xfrm.ICMP, xfrm.ICMPv6:
		return lab.ICMPPacket(t.src.Addr(), t.dst.Addr(), t.kind, t.code, binary.BigEndian.AppendUint16(nil, t.src.Port())...)
	case xfrm.ESP:
		return lab.ESPPacket(t.src.Addr(), t.dst.Addr(), 0xbad, 1)
	}
	return lab.IPPacket(t.src.Addr(), t.dst.Addr(), byte(t.proto), make([]byte, 32))
}

// kernelFlow is an entry of conntrack.
type kernelFlow struct {
	orig, reply kernelTuple
	snat, dnat  bool
	// answered flows are established; an expected one is related to another.
	answered, expected bool
}

// flowOf returns conntrack's entry for a passage, and false for one that contradicts itself.
func flowOf(p firewall.Passage) (kernelFlow, bool) {
	f := p.Flow
	k := kernelFlow{snat: f.SNAT, dnat: f.DNAT, answered: f.Established || isError(p), expected: f.Related && !isError(p)}
	k.orig = kernelTuple{proto: f.Proto, src: netip.AddrPortFrom(f.OrigSrc, 0), dst: netip.AddrPortFrom(f.OrigDst, 0)}
	from, to := uint16(0), uint16(0) // the ports of the answer
	switch {
	case f.Proto == xfrm.TCP || f.Proto == xfrm.UDP:
		k.orig.src, k.orig.dst = netip.AddrPortFrom(f.OrigSrc, f.OrigSPort), netip.AddrPortFrom(f.OrigDst, f.OrigDPort)
		from, to = f.OrigDPort, f.OrigSPort
		switch {
		case isError(p):
		case f.Reply:
			from, to = p.Received.SPort, p.Received.DPort
		default:
			from = p.AfterDNAT.DPort
		}
	case f.Proto.IsICMP():
		k.orig.src = netip.AddrPortFrom(f.OrigSrc, f.OrigSPort)
		from = f.OrigSPort
		switch {
		case isError(p):
			k.orig.kind, k.orig.code = uint8(f.OrigDPort>>8), uint8(f.OrigDPort)
		case f.Reply:
			k.orig.kind, k.orig.code = answeredBy(f.Proto, p.ICMPType), p.ICMPCode
		default:
			k.orig.kind, k.orig.code = p.ICMPType, p.ICMPCode
		}
	}
	k.reply = k.orig.inverse()
	k.reply.src, k.reply.dst = netip.AddrPortFrom(f.ReplySrc, from), netip.AddrPortFrom(f.ReplyDst, to)
	plain := k.orig.inverse()
	toItself := k.dnat && k.reply.src == k.orig.src // the kernel maps no end to its own source
	return k, !toItself && (k.reply.dst != plain.dst) == k.snat && (k.reply.src != plain.src) == k.dnat
}

// isError reports whether a passage is an ICMP error about a flow.
func isError(p firewall.Passage) bool {
	kinds := map[xfrm.Proto][]uint8{xfrm.ICMP: {3, 4, 5, 11, 12}, xfrm.ICMPv6: {1, 2, 3, 4}}
	return p.Flow.Related && slices.Contains(kinds[p.Proto], p.ICMPType)
}

// isKnown reports whether the flow of a passage is one that conntrack must know before.
func isKnown(p firewall.Passage) bool {
	f := p.Flow
	return f.Established || f.Related || f.SNAT || f.DNAT
}

// Attributes of ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
const (
	ctaTupleOrig, ctaTupleReply, ctaStatus, ctaProtoinfo, ctaNATSrc, ctaTimeout, ctaNATDst, ctaTupleMaster = 1, 2, 3, 4, 6, 7, 13, 14

	ctaTupleIP, ctaTupleProto                     = 1, 2
	ctaProtoNum, ctaProtoSPort, ctaProtoDPort     = 1, 2, 3
	ctaProtoICMP, ctaProtoICMPv6                  = 4, 7 // the identifier; type and code follow
	ctaNATProto, ctaProtoNATMin, ctaProtoNATMax   = 3, 1, 2
	ctaProtoinfoTCP, ctaTCPState, ctaTCPStateSent = 1, 1, 1
	ctaTCPStateEstablished                        = 3
	ipsSeenReply, ipsAssured, ipsConfirmed        = 1 << 1, 1 << 2, 1 << 3
	conntrackNew, conntrackDelete, conntrackLife  = 0, 2, 600
)

// attribute appends an attribute of netlink; nested ones are the data of another.
func attribute(b []byte, kind uint16, data ...byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func nested(b []byte, kind uint16, data ...byte) []byte {
	return attribute(b, kind|unix.NLA_F_NESTED, data...)
}

func (t kernelTuple) attributes() []byte {
	port := func(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
	at := uint16(1)
	if t.src.Addr().Is6() {
		at = 3
	}
	ip := attribute(attribute(nil, at, t.src.Addr().AsSlice()...), at+1, t.dst.Addr().AsSlice()...)
	proto := attribute(nil, ctaProtoNum, byte(t.proto))
	if t.proto.IsICMP() {
		at := uint16(ctaProtoICMP)
		if t.proto == xfrm.ICMPv6 {
			at = ctaProtoICMPv6
		}
		proto = attribute(attribute(attribute(proto, at, port(t.src.Port())...), at+1, t.kind), at+2, t.code)
	} else {
		proto = attribute(attribute(proto, ctaProtoSPort, port(t.src.Port())...), ctaProtoDPort, port(t.dst.Port())...)
	}
	return nested(nested(nil, ctaTupleIP, ip...), ctaTupleProto, proto...)
}

// mapping is the address and port that NAT gives to an end of a flow.
func mapping(proto xfrm.Proto, to netip.AddrPort) []byte {
	at := uint16(1)
	if to.Addr().Is6() {
		at = 4
	}
	b := attribute(attribute(nil, at, to.Addr().AsSlice()...), at+1, to.Addr().AsSlice()...)
	if proto == xfrm.TCP || proto == xfrm.UDP {
		port := binary.BigEndian.AppendUint16(nil, to.Port())
		b = nested(b, ctaNATProto, attribute(attribute(nil, ctaProtoNATMin, port...), ctaProtoNATMax, port...)...)
	}
	return b
}

// create is the message that makes an entry. The kernel sets the bits of NAT, and the
// tuple of the answers, by the mappings.
func (k kernelFlow) create() []byte {
	number := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	family, status, state := byte(unix.AF_INET), uint32(ipsConfirmed), byte(ctaTCPStateSent)
	if k.orig.src.Addr().Is6() {
		family = unix.AF_INET6
	}
	if k.answered {
		status, state = status|ipsSeenReply|ipsAssured, ctaTCPStateEstablished
	}
	b := []byte{family, 0, 0, 0}
	b = nested(nested(b, ctaTupleOrig, k.orig.attributes()...), ctaTupleReply, k.orig.inverse().attributes()...)
	b = attribute(attribute(b, ctaStatus, number(status)...), ctaTimeout, number(conntrackLife)...)
	if k.orig.proto == xfrm.TCP {
		b = nested(b, ctaProtoinfo, nested(nil, ctaProtoinfoTCP, attribute(nil, ctaTCPState, state)...)...)
	}
	if k.snat {
		b = nested(b, ctaNATSrc, mapping(k.orig.proto, k.reply.dst)...)
	}
	if k.dnat {
		b = nested(b, ctaNATDst, mapping(k.orig.proto, k.reply.src)...)
	}
	if k.expected {
		b = nested(b, ctaTupleMaster, masterOf(k.orig.src.Addr()).attributes()...)
	}
	return b
}

// masterOf is the flow to which those expected are related.
func masterOf(a netip.Addr) kernelTuple {
	t := kernelTuple{proto: xfrm.UDP, src: netip.MustParseAddrPort("100.64.0.1:9"), dst: netip.MustParseAddrPort("100.64.0.2:9")}
	if a.Is6() {
		t.src, t.dst = netip.MustParseAddrPort("[2001:db8:64::1]:9"), netip.MustParseAddrPort("[2001:db8:64::2]:9")
	}
	return t
}

// know lets conntrack forget all flows but the given.
func (c *kernelRun) know(flows []kernelFlow) {
	c.Helper()
	masters := []kernelFlow{{}, {}}
	for i, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		masters[i].orig = masterOf(a)
	}
	if len(flows) > 0 {
		flows = append(masters, flows...)
	}
	c.must(c.gateway.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := conntrack(fd, conntrackDelete, 0, make([]byte, 4)); err != nil {
			return fmt.Errorf("flush flows: %w", err)
		}
		for _, k := range flows {
			if err := conntrack(fd, conntrackNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, k.create()); err != nil {
				return fmt.Errorf("create flow %+v: %w", k, err)
			}
		}
		return nil
	}))
}

// conntrack asks ctnetlink for something.
func conntrack(fd int, kind, flags uint16, body []byte) error {
	message := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(message, uint32(unix.SizeofNlMsghdr+len(body)))
	binary.NativeEndian.PutUint16(message[4:], unix.NFNL_SUBSYS_CTNETLINK<<8|kind)
	binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	if err := unix.Sendto(fd, append(message, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("short answer")
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
