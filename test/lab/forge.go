package lab

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Protocol numbers of forged packets.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoESP    = 50
	protoICMPv6 = 58
)

// A Packet is a whole IP packet, forged byte by byte: nothing in the sender's kernel corrects or refuses it.
type Packet []byte

// SendRaw puts packets on the wire as they are, each by the route to its destination.
func (h *Host) SendRaw(t testing.TB, packets ...Packet) {
	t.Helper()
	err := h.Do(func() error {
		for _, packet := range packets {
			if err := packet.Send(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: send a forged packet: %v", h.Name, err)
	}
}

// TryRaw is SendRaw for a packet that the host's own policies or rules may refuse. A
// refusal is an error.
func (h *Host) TryRaw(packet Packet) error {
	return h.Do(func() error { return packet.Send() })
}

// SendOwn sends a packet from an address of the host itself, as a program does that is
// bound to it. The kernel looks its policies up with that address; for SendRaw it takes
// the one that the route prefers. A refusal by the host's own rules or policies is an
// error.
func (h *Host) SendOwn(packet Packet) error {
	return h.Do(func() error { return packet.Send(unix.Bind) })
}

// Send sends the packet from a raw socket in the network namespace of the calling thread.
// Each prepare is given the socket and the packet's source first: unix.Bind is one.
func (p Packet) Send(prepare ...func(fd int, src unix.Sockaddr) error) error {
	family, src, dst := unix.AF_INET, unix.Sockaddr(nil), unix.Sockaddr(nil)
	if p[0]>>4 == 4 {
		src, dst = &unix.SockaddrInet4{Addr: [4]byte(p[12:16])}, &unix.SockaddrInet4{Addr: [4]byte(p[16:20])}
	} else {
		family = unix.AF_INET6
		src, dst = &unix.SockaddrInet6{Addr: [16]byte(p[8:24])}, &unix.SockaddrInet6{Addr: [16]byte(p[24:40])}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, prepare := range prepare {
		if err := prepare(fd, src); err != nil {
			return err
		}
	}
	return unix.Sendto(fd, p, 0, dst)
}

// Times is the packet n times.
func (p Packet) Times(n int) []Packet {
	packets := make([]Packet, n)
	for i := range packets {
		packets[i] = p
	}
	return packets
}

// UDPPacket is a UDP datagram.
func UDPPacket(src, dst netip.AddrPort, payload string) Packet {
	udp := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(udp[0:], src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(payload)))
	udp = append(udp, payload...)
	sum := transportChecksum(src.Addr(), dst.Addr(), protoUDP, udp)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return IPPacket(src.Addr(), dst.Addr(), protoUDP, udp)
}

// TCPSynPacket is the first segment of a TCP connection.
func TCPSynPacket(src, dst netip.AddrPort) Packet { return TCPPacket(src, dst, 0x02) }

// TCPPacket is a segment without data.
func TCPPacket(src, dst netip.AddrPort, flags byte) Packet {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp[0:], src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], 0x1ab)
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	binary.BigEndian.PutUint16(tcp[16:], transportChecksum(src.Addr(), dst.Addr(), protoTCP, tcp))
	return IPPacket(src.Addr(), dst.Addr(), protoTCP, tcp)
}

// EchoPacket is a ping.
func EchoPacket(src, dst netip.Addr, id uint16) Packet {
	icmp := make([]byte, 16)
	binary.BigEndian.PutUint16(icmp[4:], id)
	binary.BigEndian.PutUint16(icmp[6:], 1)
	if src.Is4() {
		icmp[0] = 8
		binary.BigEndian.PutUint16(icmp[2:], checksum(icmp, 0))
		return IPPacket(src, dst, protoICMP, icmp)
	}
	icmp[0] = 128
	binary.BigEndian.PutUint16(icmp[2:], transportChecksum(src, dst, protoICMPv6, icmp))
	return IPPacket(src, dst, protoICMPv6, icmp)
}

// TooBigPacket is the ICMP error of a router to the sender of a packet that is larger
// than the next link. Path MTU discovery acts on such errors, so an attacker forges them.
func TooBigPacket(src netip.Addr, quoted Packet) Packet {
	icmp := make([]byte, 8, 8+len(quoted))
	if src.Is4() {
		icmp[0], icmp[1] = 3, 4
		binary.BigEndian.PutUint16(icmp[6:], 600)
		icmp = append(icmp, quoted...)
		binary.BigEndian.PutUint16(icmp[2:], checksum(icmp, 0))
		return IPPacket(src, netip.AddrFrom4([4]byte(quoted[12:16])), protoICMP, icmp)
	}
	dst := netip.AddrFrom16([16]byte(quoted[8:24]))
	icmp[0] = 2
	binary.BigEndian.PutUint32(icmp[4:], 1280)
	icmp = append(icmp, quoted...)
	binary.BigEndian.PutUint16(icmp[2:], transportChecksum(src, dst, protoICMPv6, icmp))
	return IPPacket(src, dst, protoICMPv6, icmp)
}

// ESPPayload is the payload of ESP, in IP or in UDP: an SPI, a sequence number and no
// valid ciphertext.
func ESPPayload(spi, sequence uint32) string {
	esp := make([]byte, 64)
	binary.BigEndian.PutUint32(esp[0:], spi)
	binary.BigEndian.PutUint32(esp[4:], sequence)
	return string(esp)
}

// ESPPacket is an ESP packet that no SA can decrypt.
func ESPPacket(src, dst netip.Addr, spi, sequence uint32) Packet {
	return IPPacket(src, dst, protoESP, []byte(ESPPayload(spi, sequence)))
}

// IPPacket is a packet of any protocol.
func IPPacket(src, dst netip.Addr, proto byte, payload []byte) Packet {
	if src.Is4() {
		header := make([]byte, 20, 20+len(payload))
		header[0], header[8], header[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(header[2:], uint16(20+len(payload)))
		copy(header[12:], src.AsSlice())
		copy(header[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(header[10:], checksum(header, 0))
		return append(header, payload...)
	}
	header := make([]byte, 40, 40+len(payload))
	header[0], header[6], header[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(header[4:], uint16(len(payload)))
	copy(header[8:], src.AsSlice())
	copy(header[24:], dst.AsSlice())
	return append(header, payload...)
}

// transportChecksum is the checksum over the pseudo header and the segment. The segment's
// checksum field is zero.
func transportChecksum(src, dst netip.Addr, proto byte, segment []byte) uint16 {
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	pseudo = append(pseudo, 0, proto, byte(len(segment)>>8), byte(len(segment)))
	return checksum(segment, uint32(^checksum(pseudo, 0)))
}

// checksum is the Internet checksum (RFC 1071), begun with a sum.
func checksum(data []byte, sum uint32) uint16 {
	for ; len(data) >= 2; data = data[2:] {
		sum += uint32(data[0])<<8 | uint32(data[1])
	}
	if len(data) == 1 {
		sum += uint32(data[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// ICMPPacket is a message of ICMP or ICMPv6, with a body of 12 bytes at least behind the checksum.
func ICMPPacket(src, dst netip.Addr, kind, code byte, body ...byte) Packet {
	icmp := make([]byte, max(16, 4+len(body)))
	icmp[0], icmp[1] = kind, code
	copy(icmp[4:], body)
	if src.Is4() {
		binary.BigEndian.PutUint16(icmp[2:], checksum(icmp, 0))
		return IPPacket(src, dst, protoICMP, icmp)
	}
	binary.BigEndian.PutUint16(icmp[2:], transportChecksum(src, dst, protoICMPv6, icmp))
	return IPPacket(src, dst, protoICMPv6, icmp)
}

// SealedPacket is an ESP packet of an SA in tunnel mode, as its peer sends it (RFC 4303, RFC 4106). The SA has the lab's
// cipher, without encapsulation in UDP.
func SealedPacket(s SA, sequence uint32, inner Packet) (Packet, error) {
	key := Key(s.SPI)
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	header := make([]byte, 16)
	binary.BigEndian.PutUint32(header[0:], s.SPI)
	binary.BigEndian.PutUint32(header[4:], sequence)
	binary.BigEndian.PutUint64(header[8:], uint64(sequence)) // the initialization vector
	plain := append(Packet{}, inner...)
	pad := byte(-(len(inner) + 2) & 3)
	for i := range pad {
		plain = append(plain, i+1)
	}
	next := byte(4)
	if inner[0]>>4 == 6 {
		next = 41
	}
	plain = append(plain, pad, next)
	sealed := gcm.Seal(header, append(append([]byte{}, key[16:]...), header[8:]...), plain, header[:8])
	return IPPacket(s.Src, s.Dst, protoESP, sealed), nil
}
