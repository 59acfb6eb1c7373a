package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/limit"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Facts is all that is known and decided about a host: a pure function of an
// Input. No rule, chain, table or set is in it. An engine lays facts out for the
// kernel, and Judge gives the verdict on a packet by them.
//
// All lists are in an order that depends on the Input alone.
type Facts struct {
	Marks Marks
	// MarkOnly, WAN, Log, Lockdown and Asymmetric are the configuration's.
	MarkOnly   bool
	WAN        []string
	Log        LogConfig
	Lockdown   *Lockdown
	Asymmetric []string
	// NoIPv6 is true if the kernel runs without IPv6.
	NoIPv6 bool
	// PacketOffload is true if a network card does all of ESP for some SA. Such
	// packets have no security path in FORWARD.
	PacketOffload bool
	// Enforce is true if packets without TAG are dropped (case 3).
	Enforce bool

	// Tunnels has the report on each tunnel, in the order of the set.
	Tunnels []TunnelReport
	// Names are the configured names of tunnels by ID. A rule may hold them, where the name
	// of a connection of the IKE daemon may not.
	Names map[string]string
	// Claims are the selector pairs that decrypted packets are verified by, in the
	// order of the set.
	Claims []Claim
	// Known are the reqids of packets that are dropped if no claim verifies them (case
	// 7), in the order of the set, with repetitions.
	Known []KnownReqid
	// IPComp are the carriers of small packets beside IPComp (case 1c).
	IPComp []IPCompCarrier
	// Overlays are the devices that unwrap packets which a tunnel protects (case 4),
	// sorted by name.
	Overlays []Overlay
	// OpenDevices are those of them that take carriers from any address.
	OpenDevices []OpenDevice
	// Devices are the interfaces into which only tunnel traffic goes, sorted by name.
	Devices []Device
	// VRFs are the host's, sorted by name. Packets that leave by one pass the hooks again
	// as they leave by its port.
	VRFs []string
	// Bridges are the host's, sorted by name, and MACs the link-layer addresses of all its
	// interfaces where it has bridges. With br_netfilter a frame that a bridge passes on
	// to another address passes the hooks, though this host neither receives nor routes it:
	// no guard of what comes in judges it. The nftables engine alone can tell it, because
	// iptables knows no destination address of the link layer.
	Bridges []string
	MACs    []xfrm.MAC
	// Guards are in force, in the order in which they decide.
	Guards []GuardFacts
	// Lines are the networks of routes to which guards give way, each with its interface,
	// sorted.
	Lines []guard.Line
	// Connected are the networks of this host's interfaces.
	Connected []Network
	// Homes are the parts of local selectors that routes lead to, each with its
	// interface, the most specific first (case 6b after DNAT).
	Homes []Network
	// Inside are the widest of the Homes behind interfaces by which no stranger comes in.
	// A packet of such a network that leaves by its interface stays there, as on the way
	// to a second gateway.
	Inside []Network
	// Uplinks are the interfaces where strangers come in, sorted. Behind are the networks
	// that connected networks, own addresses and routes other than the default ones
	// lead to; PartlyBehind are the local selectors of which only these networks are the
	// LAN's (case 6b).
	Uplinks              []string
	Behind, PartlyBehind []netip.Prefix
	// EncapPorts are the local addresses and ports, besides 4500, that receive ESP
	// in UDP.
	EncapPorts []netip.AddrPort
	// Untagged are the outer packets that must not carry TAG, because the kernel
	// would then not find their SA.
	Untagged []OuterFlow
	// Restrictions are the limits of tunnels that the configuration restricts, in
	// the order of the set.
	Restrictions []Restriction
	// Strangers are the flows from outside that must not enter a tunnel (case 8e).
	Strangers []Stranger
	// NATKeep are the tunnels with traffic that other rules may rewrite.
	NATKeep []NATKeep

	// Ignored lists the parts of the set that no rule was made for.
	Ignored []xfrm.Ignored
	// Excess are the limits that were reached, each with a line in Warnings.
	Excess []limit.Excess
	// Unenforceable says, by tunnel, why Config.Enforce is not in force.
	Unenforceable []string
	// Warnings are sentences for a person, sorted.
	Warnings []string
}

// InForce returns the guards of the facts alone.
func (f *Facts) InForce() []guard.Guard {
	guards := make([]guard.Guard, len(f.Guards))
	for i := range f.Guards {
		guards[i] = f.Guards[i].Guard
	}
	return guards
}

// SAMatch is a match for packets by an SA on their path: those of a tunnel. The
// outer addresses are set where several tunnels share the reqid.
type SAMatch struct {
	Proto    xfrm.Proto
	Reqid    uint32
	Src, Dst netip.Addr
}

// Claim is a selector pair of a tunnel within the tunnel's cap, with all that a
// rule about its packets depends on.
type Claim struct {
	Tunnel string
	Pair   xfrm.Pair
	// In matches packets that came out of the tunnel's SAs, Out those that go into
	// them.
	In, Out SAMatch
	// PolicyOnly is true if packets of the pair must carry none of our bits: the
	// kernel would not find their policy.
	PolicyOnly bool
	// Untaggable is true if packets are expected without TAG (case 2).
	Untaggable bool
	// Enforced is true if packets without TAG are dropped (case 3).
	Enforced bool
	// Live is true if the tunnel has SAs: it owns its sources (cases 1b and 7b).
	Live bool
	// MSS is the limit of the TCP segment size, 0 for none.
	MSS uint16
}

// KnownReqid is a reqid of known packets alone: each belongs to a claim, or is dropped.
type KnownReqid struct {
	Reqid uint32
	// Outer is the peer's outer address, invalid where none is sure.
	Outer netip.Addr
}

// IPCompCarrier is a tunnel with IPComp: the kernel sends small packets
// uncompressed, as IP in IP between the gateways inside ESP.
type IPCompCarrier struct {
	Tunnel        string
	Local, Remote netip.Addr
	In            SAMatch
	// Untaggable and Enforced are as in Claim.
	Untaggable, Enforced bool
}

// Overlay is a device that unwraps packets which a tunnel protects, with all that a rule
// about its packets depends on.
type Overlay struct {
	device.Overlay
	// In matches carrier packets that came out of the tunnel's SAs.
	In SAMatch
	// Untaggable and Enforced are as in Claim, for the carrier packets.
	Untaggable, Enforced bool
	// Sources are the addresses that the tunnel's packets may have on the device: those
	// of a VTI's policies and routes, within the configuration's remote:. Nil is any.
	// They tell tunnels apart that share the device.
	Sources []netip.Prefix
}

// OpenDevice is an overlay device that takes carrier packets from any address. Of
// those that came out of a tunnel only the ones of its overlays may get there.
type OpenDevice struct {
	Name  string
	Proto xfrm.Proto
	Port  uint16
	// Local is invalid if the device takes packets to any address of this host.
	Local netip.Addr
}

// Device is an interface into which only tunnel traffic goes. On the pass through
// it packets show no policy.
type Device struct {
	Name   string
	Tunnel string
	// Xfrm is true for an xfrm interface: packets that come out of it keep their
	// security path.
	Xfrm bool
	// KeepNAT is true if other rules may rewrite the traffic that goes into it.
	KeepNAT bool
}

// Network is a network that an interface leads to.
type Network struct {
	Prefix netip.Prefix
	Device string
}

// GuardFacts is a guard with all that a rule about its packets depends on.
type GuardFacts struct {
	guard.Guard
	// ByDestination is true if the destination alone decides outbound (case 8d):
	// the tunnel is down, and no address of this host or network behind it lies in
	// the local selector.
	ByDestination bool
	// Held is true if a policy for outbound packets stands: the kernel holds this
	// host's own packets until the tunnel is up.
	Held bool
	// Exempt are the networks of other interfaces within the remote selector. They
	// keep their traffic, but for the tunnel's own peer.
	Exempt []Network
	// Locals are the local selectors of the guard's tunnel with this remote
	// selector: one, or all that NAT may map a flow into.
	Locals []netip.Prefix
}

// OuterFlow is outer packets of one SA, by addresses, never by SPI.
type OuterFlow struct {
	Peer, Local netip.Addr
	// Proto is ESP, AH, or UDP with the local Port.
	Proto  xfrm.Proto
	Port   uint16
	Tunnel string
}

// Restriction is the limits of one tunnel's traffic.
type Restriction struct {
	Tunnel string
	// Name is the configured name or the ID: the word for logs.
	Name string
	// In and Out are the services that are let through, Remote the prefixes that
	// may be reached. Nil is no limit.
	In, Out []Service
	Remote  []netip.Prefix
	// Sources are the prefixes behind the peer with the match for packets from
	// there, Destinations those with the match for packets to there.
	Sources, Destinations []RestrictedPrefix
	// Overlays are the tunnel's own.
	Overlays []Overlay
	// Into are the ways into the tunnel by a device.
	Into []Into
}

// Into is a device, or the part of its traffic, that goes into one tunnel.
type Into struct {
	Device string
	// Remote has the destinations that go into the tunnel, where others share the
	// device. Except are those of other tunnels that the kernel finds first.
	Remote netip.Prefix
	Except []netip.Prefix
}

// RestrictedPrefix is a prefix behind a restricted tunnel's peer.
type RestrictedPrefix struct {
	Prefix netip.Prefix
	SA     SAMatch
}

// Stranger is new flows that come in by an interface towards a peer, unverified,
// and would enter a tunnel that takes any source (case 8e).
type Stranger struct {
	Tunnel string
	In     string
	// Out is the tunnel's device, or empty where policies take packets to Remote.
	Out    string
	Remote netip.Prefix
}

// NATKeep is the traffic of one pair of a tunnel that keeps NAT.
type NATKeep struct {
	Tunnel        string
	Local, Remote netip.Prefix
	Out           SAMatch
}
