package decide

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// witness is the evidence that an inbound SA's packets can have in PREROUTING.
func witness(sa *xfrm.SA, host xfrm.Host, links *device.Index, marks firewall.Marks) firewall.Witness {
	if !sa.Inbound {
		return firewall.Witness{Evidence: firewall.NoEvidence, Reason: "outbound: leaving packets are matched by their policy"}
	}
	only := func(format string, args ...any) firewall.Witness {
		return firewall.Witness{Evidence: firewall.PolicyOnly, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case sa.SetMark.Mask&marks.Tag != 0 && sa.SetMark.Value&marks.Tag != 0:
		return firewall.Witness{Evidence: firewall.TagAndPolicy, Reason: "the state's own output mark sets the tag"}
	case sa.SetMark.Mask&marks.Tag != 0:
		return only("the state's output mark %s overwrites the tag", sa.SetMark)
	case markTakesOurBits(sa.Mark, links, marks):
		return only("the state is found by mark %s, which covers our bits, so its packets are not tagged", sa.Mark)
	case sa.Offload.Ifindex != 0:
		return only("the state is offloaded to the network card")
	case sa.Family == xfrm.IPv4 && host.ESP4Offload:
		return only("esp4_offload is loaded: ESP may be decrypted before netfilter sees it")
	case sa.Family == xfrm.IPv6 && host.ESP6Offload:
		return only("esp6_offload is loaded: ESP may be decrypted before netfilter sees it")
	}
	return firewall.Witness{Evidence: firewall.TagAndPolicy}
}

// markTakesOurBits reports whether a packet that carries our bits is no longer found
// by a lookup mark of an SA or a policy, because its mask covers them. The SAs of a
// VTI are looked up by the device's key instead of the packet's mark.
func markTakesOurBits(m xfrm.Mark, links *device.Index, marks firewall.Marks) bool {
	return m.Mask&marks.Both() != 0 && !links.HasKey(m.Value)
}

// untaggable reports whether a tunnel's packets are expected without TAG. A tunnel
// that is down is judged by the outer family that its SAs will have, so that its
// rules need no change when it comes up.
func (d *decider) untaggable(t *xfrm.Tunnel, r *firewall.TunnelReport) bool {
	offloading := d.Host.ESP4Offload
	if t.Remote.IsValid() && !t.Remote.Is4() {
		offloading = d.Host.ESP6Offload
	}
	return r.Evidence == firewall.PolicyOnly || r.Evidence == firewall.NoEvidence && offloading
}
