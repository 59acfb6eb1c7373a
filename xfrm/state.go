package xfrm

import "net/netip"

// State is one security association of the kernel (struct xfrm_usersa_info and
// its attributes), without any key.
type State struct {
	// Family is that of the outer addresses, from the message.
	Family Family     `json:"family"`
	Src    netip.Addr `json:"src"`
	Dst    netip.Addr `json:"dst"`
	// SPI is in host byte order: 0xc0000001 as ip-xfrm prints it. For the
	// pseudo states of IPComp (Proto IPIP) it is the peer's IPv4 address.
	SPI   uint32 `json:"spi"`
	Proto Proto  `json:"proto"`
	Mode  Mode   `json:"mode"`
	Reqid uint32 `json:"reqid"`
	IfID  uint32 `json:"if_id,omitzero"`
	Dir   SADir  `json:"dir,omitzero"`
	// Mark is the mark of an incoming outer packet for this state to be
	// found; SetMark is the mark that the kernel writes to the packet after decryption.
	Mark    Mark    `json:"mark,omitzero"`
	SetMark Mark    `json:"set_mark,omitzero"`
	Encap   Encap   `json:"encap,omitzero"`
	Offload Offload `json:"offload,omitzero"`
	// CPU is the CPU that a per-CPU state is bound to, plus one; 0 is any.
	CPU      uint32   `json:"cpu,omitzero"`
	Selector Selector `json:"selector,omitzero"`
	// Flags are XFRM_STATE_*; ExtraFlags are XFRM_SA_XFLAG_*.
	Flags        uint8  `json:"flags,omitzero"`
	ExtraFlags   uint32 `json:"extra_flags,omitzero"`
	ReplayWindow uint32 `json:"replay_window,omitzero"`
	ESN          bool   `json:"esn,omitzero"`
	Algs         Algs   `json:"algs,omitzero"`
	// TFCPad is the length that ESP payloads are padded to; 0 is none.
	TFCPad uint32 `json:"tfcpad,omitzero"`
	// AddTime and UseTime are seconds since the epoch; UseTime 0 is never.
	AddTime  uint64   `json:"add_time,omitzero"`
	UseTime  uint64   `json:"use_time,omitzero"`
	Bytes    uint64   `json:"bytes,omitzero"`
	Packets  uint64   `json:"packets,omitzero"`
	Lifetime Lifetime `json:"lifetime,omitzero"`
	Errors   Errors   `json:"errors,omitzero"`
}

// Encap is UDP or TCP encapsulation. SPort and DPort are those of the outer
// header, so on an inbound state SPort is the peer's and DPort is ours.
type Encap struct {
	// Type is 2 for ESP in UDP (RFC 3948), 7 for ESP in TCP; 0 is none.
	Type  uint16 `json:"type"`
	SPort uint16 `json:"sport"`
	DPort uint16 `json:"dport"`
}

// Offload is the hardware that handles a state. Ifindex 0 is none.
type Offload struct {
	Ifindex int32 `json:"ifindex"`
	// Flags are XFRM_OFFLOAD_*: 1 IPv6, 2 inbound, 4 packet offload.
	Flags uint8 `json:"flags,omitzero"`
}

// Packet reports whether the hardware does whole packets, so that the kernel
// drops the security path before the FORWARD hook.
func (o Offload) Packet() bool { return o.Flags&4 != 0 }

// Algs names a state's algorithms, as the kernel spells them. Empty is absent.
type Algs struct {
	AEAD  string `json:"aead,omitempty"`
	Crypt string `json:"crypt,omitempty"`
	Auth  string `json:"auth,omitempty"`
	Comp  string `json:"comp,omitempty"`
	// ICVBits is the length of the integrity check value in bits, from the
	// AEAD or the truncated authentication algorithm; 0 is not known.
	ICVBits uint16 `json:"icv_bits,omitzero"`
}

// Lifetime holds a state's hard limits. Zero is unlimited. Bytes and packets
// are counts; the times are seconds after adding and after first use.
type Lifetime struct {
	Bytes   uint64 `json:"bytes,omitzero"`
	Packets uint64 `json:"packets,omitzero"`
	Add     uint64 `json:"add,omitzero"`
	Use     uint64 `json:"use,omitzero"`
}

// Errors counts packets that a state refused.
type Errors struct {
	ReplayWindow uint32 `json:"replay_window,omitzero"`
	Replay       uint32 `json:"replay,omitzero"`
	Integrity    uint32 `json:"integrity,omitzero"`
}

// Larval reports whether the state is only a placeholder: an SPI that was
// allocated, or an acquire (SPI 0), for which no algorithm is set yet.
func (s State) Larval() bool {
	return s.SPI == 0 || (s.Proto == ESP || s.Proto == AH) && s.Algs == Algs{}
}

// Pseudo reports whether the state is one of the kernel's own for IPComp: they
// carry protocol 4 or 41, have no algorithm and take uncompressed small packets.
func (s State) Pseudo() bool { return s.Proto == IPIP || s.Proto == IPv6in }

// AlgorithmSize is the room for an algorithm's name with its closing zero (alg_name).
const AlgorithmSize = 64

// StateID is how the kernel finds a state. States with other marks may share it.
type StateID struct {
	Dst   netip.Addr
	SPI   uint32
	Proto Proto
}

// ID returns the state's.
func (s *State) ID() StateID { return StateID{s.Dst, s.SPI, s.Proto} }
