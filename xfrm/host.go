package xfrm

import (
	"cmp"
	"net/netip"
	"slices"
)

// Host is the part of the host that a rule set depends on besides states and policies. Order does
// not matter to the compiler; xfrm/kernel delivers it sorted by index.
type Host struct {
	Links     []Link    `json:"links,omitempty"`
	Addresses []Address `json:"addresses,omitempty"`
	// Routes are the unicast routes of all tables.
	Routes []Route `json:"routes,omitempty"`
	// ESP4Offload and ESP6Offload tell that the module of that name is loaded
	// or built in: ESP of that outer family is then decrypted inside GRO, before
	// any iptables hook, so that no mark can be put on the outer packet.
	ESP4Offload bool `json:"esp4_offload,omitzero"`
	ESP6Offload bool `json:"esp6_offload,omitzero"`
	// Rules are the routing rules that look at the packet mark.
	Rules []RoutingRule `json:"rules,omitempty"`
	// Resolvers are the name servers that the host asks.
	Resolvers []netip.Addr `json:"resolvers,omitempty"`
	// NoIPv6 is true if the kernel runs without IPv6.
	NoIPv6 bool `json:"no_ipv6,omitzero"`
}

// Link is a network interface.
type Link struct {
	Index int32  `json:"index"`
	Name  string `json:"name"`
	// Kind is the driver's name in rtnetlink: "xfrm", "vti", "gre", "bridge",
	// "vrf" and so on; "l2tp" for the device of a kernel L2TP session, which
	// rtnetlink has no name for; empty for a physical device.
	Kind string `json:"kind,omitempty"`
	// Master is the bridge, VRF or bond that the link is a port of; 0 is none.
	Master int32 `json:"master,omitzero"`
	// Parent is the link below, such as a VLAN's or a VXLAN's underlay; 0 is none.
	Parent int32 `json:"parent,omitzero"`
	Up     bool  `json:"up,omitzero"`
	MTU    int   `json:"mtu,omitzero"`
	MAC    MAC   `json:"mac,omitzero"`
	// IfID is an xfrm interface's.
	IfID uint32 `json:"if_id,omitzero"`
	// Local and Remote are a tunnel device's outer addresses; invalid for none.
	Local  netip.Addr `json:"local,omitzero"`
	Remote netip.Addr `json:"remote,omitzero"`
	// IKey and OKey are the keys of a GRE or VTI device, host byte order.
	IKey uint32 `json:"ikey,omitzero"`
	OKey uint32 `json:"okey,omitzero"`
	// Port is the UDP port of a VXLAN (or similar) device, and that on which a
	// kernel L2TP session is received; 0 is none.
	Port uint16 `json:"port,omitzero"`
}

// Address is an address of this host.
type Address struct {
	Link int32 `json:"link"`
	// Prefix holds the address itself, not masked, with the length of the
	// network that it makes connected.
	Prefix netip.Prefix `json:"prefix"`
}

// Route is a unicast route.
type Route struct {
	Dst   netip.Prefix `json:"dst"`
	Link  int32        `json:"link"`
	Via   netip.Addr   `json:"via,omitzero"`
	Table uint32       `json:"table,omitzero"`
	// Connected is set where no gateway is needed.
	Connected bool `json:"connected,omitzero"`
}

// RoutingRule is an "ip rule" that matches on the packet mark.
type RoutingRule struct {
	Priority uint32 `json:"priority"`
	Mark     Mark   `json:"mark"`
}

// Link returns the link with that index. It is found at once where the links are sorted,
// as xfrm/kernel delivers them.
func (h Host) Link(index int32) (Link, bool) {
	at, _ := slices.BinarySearchFunc(h.Links, index, func(l Link, index int32) int { return cmp.Compare(l.Index, index) })
	if at < len(h.Links) && h.Links[at].Index == index {
		return h.Links[at], true
	}
	for i := range h.Links {
		if h.Links[i].Index == index {
			return h.Links[i], true
		}
	}
	return Link{}, false
}

// Owns reports whether addr is an address of this host.
func (h Host) Owns(addr netip.Addr) bool {
	for _, a := range h.Addresses {
		if a.Prefix.Addr() == addr {
			return true
		}
	}
	return false
}
