package gateway

import (
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
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
	found := peers.Match(records, set, peers.SinceBoot())
	for i := range set.Tunnels {
		t := &set.Tunnels[i]
		if several := found.Several[t.ID]; several != nil {
			names := make([]string, len(several))
			for i, p := range several {
				names[i] = fmt.Sprintf("%q", p.Identity)
			}
			warnings = append(warnings, fmt.Sprintf(
				"tunnel %s is of %s by what the updown hook said: the kernel can't tell their traffic apart, so none of them is taken for its peer; give each a reqid and selectors of its own",
				t.ID, strings.Join(names, " and ")))
		}
	}
	return found, warnings
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
