package gateway

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// matchPeers finds the peer of each tunnel in the records of the updown hook. Records
// that can't be read are a warning: without them a peer gets only the rights of any peer.
func (g *Gateway) matchPeers(set xfrm.Set) (peers.Found, []string) {
	if g.peers == nil {
		return peers.Found{}, nil
	}
	records, warnings, err := g.peers.Load()
	if err != nil {
		warnings = append(warnings, fmt.Sprintf("%v: who the peers are is not known", err))
	}
	warnings = append(warnings, inWords(recordsExcess(g.peers.Full()))...)
	found := peers.Match(records, set, peers.SinceBoot())
	return found, append(warnings, severalWarnings(found, set)...)
}

// severalWarnings name the tunnels of which not one peer alone can be the other end.
func severalWarnings(found peers.Found, set xfrm.Set) []string {
	const most = 3
	var warnings []string
	left := 0
	for i := range set.Tunnels {
		several := found.Several[set.Tunnels[i].ID]
		switch {
		case several == nil:
			continue
		case len(warnings) == most:
			left++
			continue
		}
		names := make([]string, len(several))
		for i, p := range several {
			names[i] = fmt.Sprintf("%q", p.Identity)
		}
		warnings = append(warnings, fmt.Sprintf(
			"tunnel %s is of several peers by the words of the updown hook (%s): the kernel can't tell their traffic apart, so none of them is taken for its peer; give each a reqid and selectors of its own",
			set.Tunnels[i].ID, text.FirstOf(names)))
	}
	if left > 0 {
		warnings = append(warnings, fmt.Sprintf("and %s more of several peers", text.Count(left, "tunnel")))
	}
	return warnings
}

// connections are the reported names of the tunnels' connections, by tunnel ID.
func connections(found peers.Found) map[string]string {
	names := make(map[string]string, len(found.Peers))
	for id, p := range found.Peers {
		names[id] = p.Connection
	}
	return names
}

// selecting returns the peers that the configuration's entries may match, by tunnel ID.
func selecting(found peers.Found) map[string]firewall.Peer {
	list := make(map[string]firewall.Peer, len(found.Peers))
	for id, p := range found.Peers {
		list[id] = firewall.Peer{Connection: p.Connection, Identity: p.Identity}
	}
	return list
}
