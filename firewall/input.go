package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Input is all that facts are decided from.
type Input struct {
	Set    xfrm.Set
	Host   xfrm.Host
	Config Config
	// Peers has the report of the IKE daemon's hook on each tunnel, by tunnel ID.
	// It only ever selects among entries that the administrator wrote.
	Peers map[string]Peer
	// Guards are remembered and configured ones; those of live policies follow
	// from the set.
	Guards []guard.Guard
	// Lines are the remembered ones. Those of routes follow from the host.
	Lines []guard.Line
	// NATSources are the addresses that SNAT rules of other programs map to.
	NATSources []netip.Prefix
}

// Peer is the other end of a tunnel as the IKE daemon's hook reported it. An empty
// field is not known.
type Peer struct {
	Connection string
	// Identity is the EAP or XAuth user that the peer authenticated as, else its IKE
	// identity.
	Identity string
}
