package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Overlay is a device of this host that unwraps packets which a tunnel protects.
// The inner packets have lost the security path (skb_scrub_packet), so no policy
// match holds on them. The mark of the carrier packet remains.
type Overlay struct {
	Tunnel string
	// Devices are the device itself, then the bridges and VRFs above it: its packets
	// appear on them once more.
	Devices []string
	// VTI is true for a VTI. Its packets come straight out of ESP and carry TAG;
	// those of other devices carry the VERIFIED of their carrier.
	VTI bool
	// Proto, Port, Local and Remote match the carrier packets, from Remote to Local.
	// They are zero for a VTI.
	Proto         xfrm.Proto
	Port          uint16
	Local, Remote netip.Addr
	// Below are the devices of the overlay that carries this one's carrier, such as
	// GRE below VXLAN; nil where the tunnel itself carries it.
	Below []string
	// In matches carrier packets that came out of the tunnel's SAs.
	In SAMatch
	// Untaggable and Enforced are as in Claim, for the carrier packets.
	Untaggable, Enforced bool
}
