package firewall

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Evidence is which of the two witnesses a state or tunnel can have.
type Evidence string

// The kinds of evidence, as status shows them.
const (
	// TagAndPolicy: the fwmark tag and the kernel's policy match, each
	// confirming the other.
	TagAndPolicy Evidence = "tag+policy"
	// PolicyOnly: the outer packet can't be tagged; Reason says why.
	PolicyOnly Evidence = "policy-only"
	// OverlayOnly: the tunnel's traffic appears on a device that hides its policy.
	OverlayOnly Evidence = "overlay"
	// NoEvidence: nothing can be verified; Reason says why.
	NoEvidence Evidence = "none"
)

// Witness is the evidence for a state or tunnel, with the reason where it is
// less than both.
type Witness struct {
	Evidence Evidence
	Reason   string
}

// witness is the evidence that an inbound SA's packets can have in PREROUTING.
func witness(sa *xfrm.SA, host xfrm.Host, marks Marks) Witness {
	if !sa.Inbound {
		return Witness{NoEvidence, "outbound: what leaves is matched by the policy it goes into"}
	}
	only := func(format string, args ...any) Witness {
		return Witness{PolicyOnly, fmt.Sprintf(format, args...)}
	}
	switch {
	case sa.SetMark.Mask&marks.Tag != 0 && sa.SetMark.Value&marks.Tag != 0:
		return Witness{TagAndPolicy, "the state's own output mark sets the tag"}
	case sa.SetMark.Mask&marks.Tag != 0:
		return only("the state's output mark %s overwrites the tag", sa.SetMark)
	case markTakesOurBits(sa.Mark, host, marks):
		return only("the state is found by mark %s, which covers our bits, so its packets are not tagged", sa.Mark)
	case sa.Offload.Ifindex != 0:
		return only("the state is offloaded to the network card")
	case sa.Family == xfrm.IPv4 && host.ESP4Offload:
		return only("esp4_offload is loaded: ESP may be decrypted before netfilter sees it")
	case sa.Family == xfrm.IPv6 && host.ESP6Offload:
		return only("esp6_offload is loaded: ESP may be decrypted before netfilter sees it")
	}
	return Witness{Evidence: TagAndPolicy}
}

// markTakesOurBits reports whether a packet that carries our bits is no longer found
// by a lookup mark of an SA or a policy, because its mask covers them. The SAs of a
// VTI are looked up by the device's key instead of the packet's mark.
func markTakesOurBits(m xfrm.Mark, host xfrm.Host, marks Marks) bool {
	return m.Mask&marks.Both() != 0 && !vtiKey(host, m.Value)
}

func vtiKey(host xfrm.Host, mark uint32) bool {
	for _, l := range host.Links {
		if device.IsVTI(l) && (l.IKey == mark || l.OKey == mark) {
			return true
		}
	}
	return false
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
