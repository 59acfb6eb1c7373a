package firewall

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TunnelReport is the verdict on one tunnel.
type TunnelReport struct {
	// Name is the configured name, the hook's connection name, or empty.
	Name string
	Witness
	// SAs has the evidence of each of the tunnel's SAs, in their order.
	SAs []Witness
	// Devices are the interfaces that only this tunnel's traffic uses.
	Devices []string
}

// tunnel adds the facts of one tunnel: its report, its claims, and the packets
// besides its claims' that belong to it.
func (d *decider) tunnel(t *xfrm.Tunnel) {
	r := d.report(t)
	d.facts.Tunnels = append(d.facts.Tunnels, r)
	d.claims(t, &r)
	if !t.Up() {
		if d.down == nil {
			d.down = make(map[string]bool)
		}
		d.down[t.ID] = true
	}
	untagged := slices.ContainsFunc(t.Pairs, func(p xfrm.Pair) bool { return markTakesOurBits(p.Mark, d.Host, d.Config.Marks) })
	for i := range t.SAs {
		sa := &t.SAs[i]
		d.facts.PacketOffload = d.facts.PacketOffload || sa.Offload.Packet()
		if !sa.Inbound {
			continue
		}
		if hasOwnEncapPort(sa) {
			d.facts.EncapPorts = append(d.facts.EncapPorts, encapPort(sa))
		}
		if untagged || markTakesOurBits(sa.Mark, d.Host, d.Config.Marks) {
			d.facts.Untagged = append(d.facts.Untagged, outerFlow(sa, t.ID))
		}
	}
	if tc, _ := d.config(t); tc.KeepNAT {
		for _, p := range t.Pairs {
			if p.Has(xfrm.Out) {
				d.facts.NATKeep = append(d.facts.NATKeep, NATKeep{t.ID, p.Local, p.Remote, SAMatch{Proto: t.Proto, Reqid: t.Reqid}})
			}
		}
	}
}

// report finds the name, the evidence and the devices of a tunnel.
func (d *decider) report(t *xfrm.Tunnel) TunnelReport {
	r := TunnelReport{Name: d.Peers[t.ID].Connection, Witness: Witness{NoEvidence, "no inbound state: the tunnel is down"}}
	if tc, ok := d.config(t); ok && tc.Name != "" {
		r.Name = tc.Name
	}
	r.SAs = slices.Grow(r.SAs, len(t.SAs))
	for i := range t.SAs {
		sa := &t.SAs[i]
		w := witness(sa, d.Host, d.Config.Marks)
		r.SAs = append(r.SAs, w)
		if sa.Inbound && (r.Evidence == NoEvidence || w.Evidence == PolicyOnly && r.Evidence == TagAndPolicy) {
			r.Witness = w
		}
	}
	for _, p := range t.Pairs {
		if r.Evidence == TagAndPolicy && markTakesOurBits(p.Mark, d.Host, d.Config.Marks) {
			r.Witness = Witness{PolicyOnly, fmt.Sprintf("its policies are found by mark %s, which covers our bits", p.Mark)}
		}
	}
	for _, o := range d.facts.Overlays {
		if o.Tunnel == t.ID {
			r.Devices = append(r.Devices, o.Devices...)
			if o.VTI && r.Evidence != NoEvidence {
				r.Witness = Witness{OverlayOnly, "the VTI device hides the policy from iptables"}
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

// untaggable reports whether a tunnel's packets are expected without TAG. A tunnel
// that is down is judged by the outer family that its SAs will have, so that its
// rules need no change when it comes up.
func (d *decider) untaggable(t *xfrm.Tunnel, r *TunnelReport) bool {
	offloading := d.Host.ESP4Offload
	if t.Remote.IsValid() && !t.Remote.Is4() {
		offloading = d.Host.ESP6Offload
	}
	return r.Evidence == PolicyOnly || r.Evidence == NoEvidence && offloading
}

// enforcement decides whether packets without TAG are dropped, and marks the
// claims of which that holds.
func (d *decider) enforcement() {
	if !d.Config.Enforce {
		return
	}
	d.facts.Unenforceable = d.obstacles()
	d.facts.Enforce = len(d.facts.Unenforceable) == 0
	if !d.facts.Enforce {
		d.facts.Warnings = append(d.facts.Warnings, "cross_check: enforce is not in force, as under observe: "+few(d.facts.Unenforceable))
		return
	}
	for i := range d.facts.Claims {
		c := &d.facts.Claims[i]
		c.Enforced = !c.Untaggable
	}
	for i := range d.facts.IPComp {
		c := &d.facts.IPComp[i]
		c.Enforced = !c.Untaggable
	}
	for i := range d.facts.Overlays {
		o := &d.facts.Overlays[i]
		o.Enforced = !o.Untaggable
	}
}

// obstacles returns, for each tunnel that is up and whose packets may lack TAG for
// a good reason, that reason. A tunnel that is down is no obstacle, because its
// evidence shows when it has SAs.
func (d *decider) obstacles() []string {
	var found []string
	for i := range d.Set.Tunnels {
		t, r := &d.Set.Tunnels[i], &d.facts.Tunnels[i]
		if r.Evidence != PolicyOnly {
			continue
		}
		name := t.ID
		if r.Name != "" {
			name = r.Name + " (" + t.ID + ")"
		}
		found = append(found, fmt.Sprintf("tunnel %s: %s", name, r.Reason))
	}
	return found
}

// known adds the tunnel's reqid if each of its packets belongs to a claim.
func (d *decider) known(t *xfrm.Tunnel) {
	if d.uncertain[t.Reqid] {
		return
	}
	k := KnownReqid{Reqid: t.Reqid}
	if t.Mode == xfrm.TunnelMode && xfrm.Specified(t.Remote) {
		k.Outer = t.Remote
	}
	d.facts.Known = append(d.facts.Known, k)
}

func compareOuterFlows(x, y OuterFlow) int {
	return cmp.Or(x.Peer.Compare(y.Peer), x.Local.Compare(y.Local), cmp.Compare(x.Proto, y.Proto),
		cmp.Compare(x.Port, y.Port), cmp.Compare(x.Tunnel, y.Tunnel))
}
