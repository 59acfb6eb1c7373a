package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// openPeers returns the records of this network namespace: each has tunnels of
// its own.
func openPeers(o *options) (*peers.Store, error) {
	dir, err := runFile(o, "peers", "")
	if err != nil {
		return nil, err
	}
	return peers.In(dir), nil
}

// recognise finds out who is at the other end of the tunnels. That the records
// can't be read keeps no rule from being written: who is unknown gets no more
// than anybody would.
func (g *gateway) recognise(set xfrm.Set) peers.Found {
	if g.peers == nil {
		return peers.Found{}
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
	for _, w := range warnings {
		if !slices.Contains(g.warnings, w) { // it is looked at more than once
			g.warnings = append(g.warnings, w)
		}
	}
	return found
}

// sweep removes the records that are of no use any more. The caller holds the
// lock.
func (g *gateway) sweep(found peers.Found) {
	if g.peers == nil {
		return
	}
	if err := g.peers.Sweep(found.Stale); err != nil {
		g.warnings = append(g.warnings, err.Error())
	}
}

// selecting is what the configuration's entries may match.
func selecting(found peers.Found) map[string]firewall.Peer {
	list := make(map[string]firewall.Peer, len(found.Peers))
	for id, p := range found.Peers {
		list[id] = firewall.Peer{Connection: p.Connection, Identity: p.Identity}
	}
	return list
}

// shown is what status prints of the peers.
func shown(found peers.Found) map[string]status.Peer {
	list := make(map[string]status.Peer, len(found.Peers))
	for id, p := range found.Peers {
		shown := status.Peer{Connection: p.Connection, PeerID: p.PeerID, User: p.User}
		for _, a := range p.VirtualIPs {
			shown.VirtualIPs = append(shown.VirtualIPs, a.String())
		}
		list[id] = shown
	}
	return list
}
