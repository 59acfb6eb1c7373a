package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Config is the administrator's decisions. The zero value with DefaultMarks is
// the configuration of a host without a file.
type Config struct {
	// WAN names the interfaces on which IKE, ESP and AH are let in and out.
	// Empty is any.
	WAN []string
	// MarkOnly leaves the verdict on verified traffic to another firewall:
	// rules only set VERIFIED, none accepts.
	MarkOnly bool
	Marks    Marks
	Log      LogConfig
	Guard    guard.Config
	// Enforce drops decrypted packets without TAG where TAG could be had
	// (case 3). Where some tunnel's packets can't be tagged, it is not in force.
	Enforce bool
	// Behind are networks behind this gateway that the default route leads to. They turn
	// case 6b on for the local selectors that they lie in.
	Behind []netip.Prefix
	// IKEPorts are local UDP ports of IKE and of ESP in UDP besides 500 and 4500. They are
	// open while no state stands, too.
	IKEPorts []uint16
	// Lockdown, if not nil, blocks all other packets in by the WAN interfaces. It needs
	// WAN.
	Lockdown *Lockdown
	// AutoMarks asks for a free pair of bits in place of Marks. Compile does
	// not look at it: the caller puts the pair into Marks.
	AutoMarks bool
	Tunnels   []TunnelConfig
}

// LogConfig says where drops are written to, and how many a second at most. The zero
// value is nowhere.
type LogConfig struct {
	// Kernel writes to the kernel's log, else Group is that of NFLOG.
	Kernel    bool
	Group     uint16
	PerSecond uint16
}

// TunnelConfig is the administrator's decisions on the tunnels that Match
// selects. The first entry that matches a tunnel holds.
type TunnelConfig struct {
	Match Match
	// Name is shown in place of the tunnel's ID.
	Name string
	// Site names what tunnels lead to in common: what is routed into the device of one may
	// come out of each of them. Empty is a site of the tunnel's own.
	Site string
	// Remote caps the peer's claims: only sources within these prefixes
	// are verified, however wide the negotiated selectors. Nil is no cap.
	Remote []netip.Prefix
	// In and Out, if not nil, restrict packets that come out of the tunnel and go
	// into it to these services; an allowed flow goes both ways.
	In, Out []Service
	MSS     MSS
	// KeepNAT lets other rules rewrite this tunnel's traffic.
	KeepNAT bool
}

// Service is a protocol, with a range of destination ports where it has ports.
// ICMP stands for ICMPv6 too.
type Service struct {
	Proto xfrm.Proto
	Ports Ports
}

// Lockdown names the services that come in by the WAN interfaces besides IPsec, replies,
// ICMP errors, neighbour discovery and DHCP.
type Lockdown struct{ Services []Service }

// Match selects tunnels. Every field that is set must fit.
type Match struct {
	Connection string
	Identity   string
	Reqid      uint32
	Peer       netip.Prefix
	Remote     netip.Prefix
}

// Marks are the two bits of the fwmark that carry the evidence, each a mask of
// exactly one bit.
//
// The defaults are bits 28 and 29. No bit is free on every host: Docker's
// encrypted overlays and Kubernetes use low ones, tailscale 16 to 23, Cilium
// and Calico many from 8 up; 24 to 31 are the quietest, and 30 and 31 are left
// to programs that count from the top.
type Marks struct {
	// Tag is set on outer packets and lives through decryption.
	Tag uint32
	// Verified records the verdict; other firewalls may match on it.
	Verified uint32
}

// DefaultMarks are bits 28 and 29.
func DefaultMarks() Marks { return Marks{Tag: 1 << 28, Verified: 1 << 29} }

// Both is the mask of both bits.
func (m Marks) Both() uint32 { return m.Tag | m.Verified }

// Ports is an inclusive range of ports; the zero value is any port.
type Ports struct{ Lo, Hi uint16 }

// Port is the range of a single port.
func Port(p uint16) Ports { return Ports{p, p} }

// MSS limits the segment size that TCP connections through a
// tunnel ask for. The zero value leaves it alone.
type MSS struct {
	// Auto computes it from the tunnel's states and the route to the peer.
	Auto bool
	// Size is the limit, where Auto is not set.
	Size uint16
}
