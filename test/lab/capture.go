package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A Frame is a packet that a Capture saw.
type Frame struct {
	Src, Dst         netip.Addr
	Proto            uint8
	SrcPort, DstPort uint16 // of UDP and TCP
	Link             string // the interface
	Outgoing         bool   // sent by the host of the capture
	Payload          []byte // after the IP header, and after the UDP header for UDP
}

func (f Frame) String() string {
	return fmt.Sprintf("%s: %s:%d > %s:%d proto %d, %d bytes", f.Link, f.Src, f.SrcPort, f.Dst, f.DstPort, f.Proto, len(f.Payload))
}

// IsESP is true for ESP as such and for ESP in UDP on port 4500.
func IsESP(f Frame) bool { return f.Proto == protoESP || IsNATT(f) }

// IsNATT is true for ESP in UDP on port 4500: neither IKE, which has four zero bytes first, nor a keepalive.
func IsNATT(f Frame) bool {
	return f.Proto == protoUDP && (f.SrcPort == 4500 || f.DstPort == 4500) && len(f.Payload) > 4 &&
		binary.BigEndian.Uint32(f.Payload) != 0
}

// Between is true for packets, in whatever protocol, from an address in one network to one in the other, either way:
// on the WAN this is cleartext of a tunnel between the two.
func Between(a, b netip.Prefix) func(Frame) bool {
	return func(f Frame) bool {
		return a.Contains(f.Src) && b.Contains(f.Dst) || b.Contains(f.Src) && a.Contains(f.Dst)
	}
}

// A Capture sees the IP packets on interfaces of a host, in both directions, from its start until the test ends.
type Capture struct {
	fd     int
	links  map[int]string // by interface index
	only   func(Frame) bool
	mu     sync.Mutex
	frames []Frame
}

// Wire watches the WAN. Each packet is seen once, when it leaves its sender. The Link of
// the frame names the sender's port. Link-local traffic of IPv6, such as multicast
// reports and neighbour discovery, is left out.
func (n *Network) Wire(t testing.TB) *Capture {
	t.Helper()
	c := n.WAN.Capture(t, "moon0", "sun0", "mallory0")
	c.only = func(f Frame) bool { return !f.Outgoing && !f.Src.IsLinkLocalUnicast() && !f.Dst.IsMulticast() }
	return c
}

// Capture starts to watch interfaces of the host. A packet socket sees an incoming packet
// before netfilter, and an outgoing one after it.
func (h *Host) Capture(t testing.TB, links ...string) *Capture {
	t.Helper()
	c := &Capture{fd: -1, links: map[int]string{}}
	err := h.Do(func() error {
		for _, link := range links {
			device, err := net.InterfaceByName(link)
			if err != nil {
				return fmt.Errorf("interface %s: %w", link, err)
			}
			c.links[device.Index] = link
		}
		var err error
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20); err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
		return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all})
	})
	if err != nil {
		t.Fatalf("%s: capture: %v", h.Name, err)
	}
	t.Cleanup(func() { unix.Close(c.fd) })
	return c
}

// Frames are the packets seen so far. They wait in the socket until somebody asks, so that nothing which passed before
// the call is missed.
func (c *Capture) Frames(t testing.TB) []Frame {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	buf := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return c.frames
		}
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			t.Fatalf("capture: %v", err)
		}
		frame, ok := parseFrame(buf[:n])
		link, isLink := from.(*unix.SockaddrLinklayer)
		if !ok || !isLink || c.links[link.Ifindex] == "" {
			continue
		}
		frame.Link, frame.Outgoing = c.links[link.Ifindex], link.Pkttype == unix.PACKET_OUTGOING
		if c.only == nil || c.only(frame) {
			c.frames = append(c.frames, frame)
		}
	}
}

// Count is how many packets so far match.
func (c *Capture) Count(t testing.TB, match func(Frame) bool) int {
	t.Helper()
	count := 0
	for _, frame := range c.Frames(t) {
		if match(frame) {
			count++
		}
	}
	return count
}

// parseFrame reads an IP packet; anything else, such as ARP, is not ok.
func parseFrame(packet []byte) (frame Frame, ok bool) {
	var rest []byte
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4 && len(packet) >= int(packet[0]&15)*4:
		frame.Src, frame.Dst = netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
		frame.Proto = packet[9]
		rest = packet[int(packet[0]&15)*4:]
		if binary.BigEndian.Uint16(packet[6:])&0x1fff != 0 { // a later fragment has no ports
			frame.Payload = append([]byte(nil), rest...)
			return frame, true
		}
	case len(packet) >= 40 && packet[0]>>4 == 6:
		frame.Src, frame.Dst = netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40]))
		frame.Proto, rest = skipExtensions(packet[6], packet[40:])
	default:
		return Frame{}, false
	}
	if (frame.Proto == protoUDP || frame.Proto == protoTCP) && len(rest) >= 8 {
		frame.SrcPort, frame.DstPort = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		if frame.Proto == protoUDP {
			rest = rest[8:]
		}
	}
	frame.Payload = append([]byte(nil), rest...)
	return frame, true
}

// skipExtensions goes past hop-by-hop, routing and destination options of IPv6: the kernel's own tunnels put such a
// header before ESP (the encapsulation limit of RFC 2473).
func skipExtensions(proto uint8, rest []byte) (uint8, []byte) {
	for proto == unix.IPPROTO_HOPOPTS || proto == unix.IPPROTO_ROUTING || proto == unix.IPPROTO_DSTOPTS {
		if len(rest) < 8 || len(rest) < 8+8*int(rest[1]) {
			break
		}
		proto, rest = rest[0], rest[8+8*int(rest[1]):]
	}
	return proto, rest
}
