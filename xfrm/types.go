package xfrm

import (
	"fmt"
	"net/netip"
	"strconv"
)

// Family is an address family, as the kernel numbers it (AF_INET, AF_INET6).
type Family uint8

// The families that XFRM knows.
const (
	IPv4 Family = 2
	IPv6 Family = 10
)

// FamilyOf returns the family of an address: IPv6 for all but plain IPv4 addresses.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns "ipv4" or "ipv6".
func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	}
	return "family-" + strconv.Itoa(int(f))
}

// Proto is an IP protocol number. Zero means "any" in a selector.
type Proto uint8

// The protocols that matter to IPsec and to its payload.
const (
	ICMP   Proto = 1
	IPIP   Proto = 4
	TCP    Proto = 6
	UDP    Proto = 17
	IPv6in Proto = 41
	GRE    Proto = 47
	ESP    Proto = 50
	AH     Proto = 51
	ICMPv6 Proto = 58
	Comp   Proto = 108
	L2TP   Proto = 115
	SCTP   Proto = 132
)

// HasPorts reports whether packets of the protocol have ports that selectors name.
func (p Proto) HasPorts() bool { return p == TCP || p == UDP || p == SCTP }

// IsICMP reports whether the protocol is ICMP of either family.
func (p Proto) IsICMP() bool { return p == ICMP || p == ICMPv6 }

// String returns the name that iptables and ip-xfrm use, or the number.
func (p Proto) String() string {
	if name, ok := protoName(p); ok {
		return name
	}
	return strconv.Itoa(int(p))
}

func protoName(p Proto) (string, bool) {
	switch p {
	case 0:
		return "any", true
	case ICMP:
		return "icmp", true
	case IPIP:
		return "ipip", true
	case TCP:
		return "tcp", true
	case UDP:
		return "udp", true
	case IPv6in:
		return "ipv6", true
	case GRE:
		return "gre", true
	case ESP:
		return "esp", true
	case AH:
		return "ah", true
	case ICMPv6:
		return "icmpv6", true
	case Comp:
		return "comp", true
	case L2TP:
		return "l2tp", true
	case SCTP:
		return "sctp", true
	}
	return "", false
}

// Mode is how a state or template encapsulates (XFRM_MODE_*).
type Mode uint8

// The modes of Linux 6.12, and IPTFS of 6.14.
const (
	TransportMode Mode = 0
	TunnelMode    Mode = 1
	RouteOptMode  Mode = 2
	InTriggerMode Mode = 3
	BEETMode      Mode = 4
	IPTFSMode     Mode = 5
)

var modeNames = [...]string{"transport", "tunnel", "route-opt", "in-trigger", "beet", "iptfs"}

// String returns the name that ip-xfrm uses, or the number.
func (m Mode) String() string { return nameOf(modeNames[:], uint8(m)) }

// Known reports whether the mode is one of the constants.
func (m Mode) Known() bool { return int(m) < len(modeNames) }

// Dir is a policy's direction (XFRM_POLICY_*). Directions 3 and above are
// policies of a single socket: an IKE daemon exempts its own sockets with them.
type Dir uint8

// The directions of policies.
const (
	In        Dir = 0
	Out       Dir = 1
	Fwd       Dir = 2
	SocketIn  Dir = 3
	SocketOut Dir = 4
)

var dirNames = [...]string{"in", "out", "fwd", "socket-in", "socket-out"}

// String returns the name that ip-xfrm uses, or the number.
func (d Dir) String() string { return nameOf(dirNames[:], uint8(d)) }

// SADir is the direction the IKE daemon declared for a state (XFRMA_SA_DIR,
// Linux 6.10). Older kernels and daemons leave it Undeclared.
type SADir uint8

// The declared directions, with the kernel's values.
const (
	Undeclared SADir = 0
	Inbound    SADir = 1
	Outbound   SADir = 2
)

var saDirNames = [...]string{"", "in", "out"}

// String returns "in", "out" or "".
func (d SADir) String() string { return nameOf(saDirNames[:], uint8(d)) }

// Action is a policy's action on the traffic it selects.
type Action uint8

// The actions, with the kernel's values. An Allow policy without a template is
// a bypass: the traffic passes in clear.
const (
	Allow Action = 0
	Block Action = 1
)

var actionNames = [...]string{"allow", "block"}

// String returns "allow", "block" or the number.
func (a Action) String() string { return nameOf(actionNames[:], uint8(a)) }

// PolicyType tells main policies from sub-policies (mobile IPv6 only).
type PolicyType uint8

// The policy types, with the kernel's values.
const (
	Main PolicyType = 0
	Sub  PolicyType = 1
)

var policyTypeNames = [...]string{"main", "sub"}

// String returns "main", "sub" or the number.
func (t PolicyType) String() string { return nameOf(policyTypeNames[:], uint8(t)) }

// Mark is a value under a mask. The zero Mark matches everything (as a lookup
// mark) or changes nothing (as an output mark). The kernel keeps a value as it
// was given: a lookup mark with a value that has bits outside of its mask is never
// matched, and an output mark sets only the bits within.
type Mark struct {
	Value uint32 `json:"value"`
	Mask  uint32 `json:"mask"`
}

// IsZero reports whether the mark matches no bit and changes none.
func (m Mark) IsZero() bool { return m == Mark{} }

// String renders value/mask in hexadecimal, as ip-xfrm and iptables do.
func (m Mark) String() string { return fmt.Sprintf("%#x/%#x", m.Value, m.Mask) }

func nameOf(names []string, v uint8) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

func valueOf(names []string, kind, text string) (uint8, error) {
	for i, name := range names {
		if name == text {
			return uint8(i), nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("parse %s %q: not a name or a number below 256", kind, text)
	}
	return uint8(n), nil
}
