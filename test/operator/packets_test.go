package operator

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// mallory sends in clear, by any of the addresses that matter.
func (c *comparison) mallory(f lab.Family) sample {
	for {
		src := c.pick(c.host(c.Alice.InnerNet(f)), c.host(c.Alice.InnerNet(f)), c.host(c.Bob.InnerNet(f)), c.host(c.Bob.InnerNet(f)), c.Mallory.Outer(f), c.stranger(f))
		dst := c.pick(c.Bob.Inner(f), c.Bob.Inner(f), c.Sun.Inner(f), c.Sun.Inner(f), c.Alice.Inner(f), c.Alice.Inner(f), c.Sun.Outer(f))
		s := c.sample(c.Mallory, src, dst, true)
		// An IKE daemon's socket is exempt from policies. There is none here.
		if !(s.toIKE && c.Alice.InnerNet(f).Contains(src) && dst == c.Sun.Inner(f)) {
			return s.with("--in wan0", "", c.espOut(f))
		}
	}
}

// tunnelled is sent by alice and encrypted by moon, with addresses of the tunnel and others.
func (c *comparison) tunnelled(f lab.Family) sample {
	src := c.host(c.Alice.InnerNet(f))
	if c.rand.IntN(3) == 0 {
		src = c.host(c.beside(f))
	}
	s := c.sample(c.Alice, src, c.pick(c.Bob.Inner(f), c.Sun.Inner(f)), true)
	reqid := map[lab.Family]int{lab.IPv4: 11, lab.IPv6: 12}[f]
	outer := fmt.Sprintf("--in wan0 --src %s --dst %s --proto esp", c.Moon.Outer(f), c.Sun.Outer(f))
	return s.with(fmt.Sprintf("--in wan0 --reqid %d --tag", reqid), outer, "")
}

// bob sends through sun: into the tunnel and elsewhere.
func (c *comparison) bob(f lab.Family) sample {
	src := c.pick(c.host(c.Bob.InnerNet(f)), c.host(c.Bob.InnerNet(f)), c.stranger(f))
	return c.sample(c.Bob, src, c.pick(c.Alice.Inner(f), c.Alice.Inner(f), c.Alice.Inner(f), c.Mallory.Outer(f), c.Moon.Outer(f)), true).with("--in lan0", "", c.espOut(f))
}

// own is sent by sun itself.
func (c *comparison) own(f lab.Family) sample {
	src := c.pick(c.Sun.Inner(f), c.Sun.Inner(f), c.Sun.Outer(f))
	return c.sample(c.Sun, src, c.pick(c.Alice.Inner(f), c.Alice.Inner(f), c.Mallory.Outer(f), c.Bob.Inner(f)), false).with("", "", c.espOut(f))
}

func (c *comparison) espOut(f lab.Family) string {
	return fmt.Sprintf("--out wan0 --src %s --dst %s --proto esp", c.Sun.Outer(f), c.Moon.Outer(f))
}

func (c *comparison) pick(addresses ...netip.Addr) netip.Addr {
	return addresses[c.rand.IntN(len(addresses))]
}

// host is an address of a network that no host has.
func (c *comparison) host(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(100 + c.rand.IntN(150))
	a, _ := netip.AddrFromSlice(b)
	return a
}

// beside is a network that moon encrypts and that sun's policies do not name.
func (c *comparison) beside(f lab.Family) netip.Prefix {
	if f == lab.IPv4 {
		return netip.MustParsePrefix("10.1.5.0/24")
	}
	return netip.MustParsePrefix("fd00:1:0:5::/64")
}

func (c *comparison) stranger(f lab.Family) netip.Addr {
	if f == lab.IPv4 {
		return c.host(netip.MustParsePrefix("198.51.100.0/24"))
	}
	return c.host(netip.MustParsePrefix("2001:db8:7::/64"))
}

// unasked is a packet about which nothing has been asked yet.
type unasked struct {
	sample
	words string
	toIKE bool
}

func (u unasked) with(how, outer, esp string) sample {
	u.ask, u.outer, u.esp = how+" "+u.words, outer, esp
	return u.sample
}

// sample makes a packet of any protocol, different from all others. IPsec's own protocols
// are for packets that pass: a raw socket sends them differently from the kernel's IPsec
// or an IKE daemon.
func (c *comparison) sample(from *lab.Host, src, dst netip.Addr, ipsec bool) unasked {
	c.sent++
	id := uint16(20000 + c.sent)
	u := unasked{sample: sample{from: from}, words: fmt.Sprintf("--src %s --dst %s ", src, dst)}
	ported := func(port uint16) (netip.AddrPort, netip.AddrPort) {
		return netip.AddrPortFrom(src, id), netip.AddrPortFrom(dst, port)
	}
	kind := c.rand.IntN(10)
	if !ipsec && kind >= 8 {
		kind = c.rand.IntN(8)
	}
	if kind == 7 {
		// A second one is of the same flow, and explain speaks of a flow's first packet.
		if c.portless[[2]netip.Addr{src, dst}] || c.portless[[2]netip.Addr{dst, src}] {
			kind = 6
		}
		c.portless[[2]netip.Addr{src, dst}] = true
	}
	switch {
	case kind < 3:
		port := []uint16{22, 80, 443, uint16(1 + c.rand.IntN(65535))}[c.rand.IntN(4)]
		u.raw = lab.TCPSynPacket(ported(port))
		u.words += fmt.Sprintf("--proto tcp --sport %d --dport %d", id, port)
	case kind < 6 || kind == 8:
		port := []uint16{53, 5555, uint16(6000 + c.rand.IntN(50000))}[c.rand.IntN(3)]
		if kind == 8 {
			port = []uint16{500, 4500}[c.rand.IntN(2)]
			u.toIKE = true
		}
		s, d := ported(port)
		u.raw = lab.UDPPacket(s, d, "\x00\x00\x00\x00 xfrmfw")
		u.words += fmt.Sprintf("--proto udp --sport %d --dport %d", id, port)
	case kind == 6:
		u.raw = lab.EchoPacket(src, dst, id)
		u.words += "--proto icmp"
	case kind == 7:
		u.raw = lab.IPPacket(src, dst, 99, binary.BigEndian.AppendUint32(nil, uint32(id)))
		u.words += "--proto 99"
	default:
		u.raw = lab.ESPPacket(src, dst, uint32(id), 1)
		u.words += "--proto esp"
	}
	frame := parse(u.raw)
	u.key = keyOf(frame)
	return u
}

// parse is the forged packet as a capture would show it.
func parse(p lab.Packet) lab.Frame {
	if p[0]>>4 == 4 {
		return frameOf(netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), p[9], p[20:])
	}
	return frameOf(netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40])), p[6], p[40:])
}

func frameOf(src, dst netip.Addr, proto byte, rest []byte) lab.Frame {
	f := lab.Frame{Src: src, Dst: dst, Proto: proto, Payload: rest}
	if proto == 6 || proto == 17 {
		f.SrcPort, f.DstPort = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	}
	return f
}

// keyOf tells a packet from all others: by its source port, the ID of an echo, or the first four bytes.
func keyOf(f lab.Frame) string {
	id := uint32(f.SrcPort)
	switch {
	case id != 0:
	case (f.Proto == 1 || f.Proto == 58) && len(f.Payload) >= 6:
		id = uint32(binary.BigEndian.Uint16(f.Payload[4:]))
	case len(f.Payload) >= 4:
		id = binary.BigEndian.Uint32(f.Payload)
	}
	return fmt.Sprintf("%s %s %d %d", f.Src, f.Dst, f.Proto, id)
}
