package decide

import (
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// tunnel adds the facts of one tunnel: its report, its claims, and the packets
// besides its claims' that belong to it.
func (d *decider) tunnel(t *xfrm.Tunnel) {
	r := d.report(t)
	d.facts.Tunnels = append(d.facts.Tunnels, r)
	d.claims(t, &r)
	if at := d.claimed[t.ID]; at.from == at.to && r.Evidence == firewall.TagAndPolicy {
		d.facts.Tunnels[len(d.facts.Tunnels)-1].Witness = firewall.Witness{Evidence: firewall.NoEvidence, Reason: "nothing of it is verified: ignored says why"}
	}
	if !t.Up() {
		if d.down == nil {
			d.down = make(map[string]bool)
		}
		d.down[t.ID] = true
	}
	untagged := slices.ContainsFunc(t.Pairs, func(p xfrm.Pair) bool { return markTakesOurBits(p.Mark, d.links, d.Config.Marks) })
	for i := range t.SAs {
		sa := &t.SAs[i]
		d.facts.PacketOffload = d.facts.PacketOffload || sa.Offload.Packet()
		if !sa.Inbound {
			continue
		}
		if hasOwnEncapPort(sa) {
			d.facts.EncapPorts = append(d.facts.EncapPorts, encapPort(sa))
		}
		if untagged || markTakesOurBits(sa.Mark, d.links, d.Config.Marks) {
			d.facts.Untagged = append(d.facts.Untagged, outerFlow(sa, t.ID))
		}
	}
	if tc, _ := d.config(t); tc.KeepNAT {
		for _, p := range t.Pairs {
			if p.Has(xfrm.Out) {
				d.facts.NATKeep = append(d.facts.NATKeep, firewall.NATKeep{Tunnel: t.ID, Local: p.Local, Remote: p.Remote, Out: firewall.SAMatch{Proto: t.Proto, Reqid: t.Reqid}})
			}
		}
	}
}

// report finds the name, the evidence and the devices of a tunnel.
func (d *decider) report(t *xfrm.Tunnel) firewall.TunnelReport {
	r := firewall.TunnelReport{Name: d.Peers[t.ID].Connection, Witness: firewall.Witness{Evidence: firewall.NoEvidence, Reason: "no inbound state: the tunnel is down"}}
	if tc, ok := d.config(t); ok && tc.Name != "" {
		r.Name = tc.Name
		if d.facts.Names == nil {
			d.facts.Names = make(map[string]string)
		}
		d.facts.Names[t.ID] = tc.Name
	}
	if len(t.Pairs) == 0 {
		r.Witness = firewall.Witness{Evidence: firewall.NoEvidence, Reason: "its pairs are beyond a limit: warnings say which"}
	}
	r.SAs = slices.Grow(r.SAs, len(t.SAs))
	for i := range t.SAs {
		sa := &t.SAs[i]
		w := witness(sa, d.Host, d.links, d.Config.Marks)
		r.SAs = append(r.SAs, w)
		if sa.Inbound && (r.Evidence == firewall.NoEvidence || w.Evidence == firewall.PolicyOnly && r.Evidence == firewall.TagAndPolicy) {
			r.Witness = w
		}
	}
	for _, p := range t.Pairs {
		if r.Evidence == firewall.TagAndPolicy && markTakesOurBits(p.Mark, d.links, d.Config.Marks) {
			r.Witness = firewall.Witness{Evidence: firewall.PolicyOnly, Reason: fmt.Sprintf("its policies are found by mark %s, which covers our bits", p.Mark)}
		}
	}
	for _, o := range d.facts.Overlays {
		if o.Tunnel == t.ID {
			r.Devices = append(r.Devices, o.Devices...)
			if o.VTI && r.Evidence != firewall.NoEvidence {
				r.Witness = firewall.Witness{Evidence: firewall.OverlayOnly, Reason: "the VTI device hides the policy from iptables"}
			}
		}
	}
	for _, device := range d.facts.Devices {
		if device.Xfrm && device.Tunnel == t.ID {
			r.Devices = append(r.Devices, device.Name)
		}
	}
	slices.Sort(r.Devices)
	r.Devices = slices.Compact(r.Devices)
	return r
}

// known adds the tunnel's reqid if each of its packets belongs to a claim, or to a pair
// beyond a limit.
func (d *decider) known(t *xfrm.Tunnel) {
	if d.uncertain[t.Reqid] || len(t.Pairs) == 0 {
		return
	}
	k := firewall.KnownReqid{Reqid: t.Reqid}
	if t.Mode == xfrm.TunnelMode && xfrm.Specified(t.Remote) {
		k.Outer = t.Remote
	}
	d.facts.Known = append(d.facts.Known, k)
}
