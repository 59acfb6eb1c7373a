package explain

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// reason is the meaning of a decisive purpose for the packet.
func reason(name rules.Purpose, number string) string {
	switch name {
	case rules.PurposeVerified:
		return "decrypted, between the tunnel's selectors, and confirmed by TAG"
	case rules.PurposeRelated:
		return "an ICMP error out of the tunnel, about one of its flows"
	case rules.PurposeIPComp:
		return "a small packet of a tunnel with IPComp"
	case rules.PurposePolicyOnly:
		return "decrypted, between the tunnel's selectors; TAG cannot be had there"
	case rules.PurposeUnconfirmed:
		return "decrypted, between the tunnel's selectors, but without TAG, which could be had"
	case rules.PurposeOverlay:
		return "from a device that unwraps packets of the tunnel"
	case rules.PurposeStray:
		return "it carries the bits of xfrmfw without evidence; they are cleared"
	case rules.PurposeSpoof:
		return "cleartext from a tunnel's remote to its local selector"
	case rules.PurposeInject:
		return "from a local to a remote selector, in by an interface that does not lead to its source: the gateway would encrypt it"
	case rules.PurposeCrossed:
		return "decrypted, with addresses outside the selectors of its tunnel"
	case rules.PurposeUnknown:
		return "decrypted by an SA of no tunnel"
	case rules.PurposeLeak, rules.PurposeReject:
		switch number {
		case "8b":
			return "an older NAT decision would take it out of its tunnel"
		case "8c":
			return "an ICMP error that quotes a tunnel's packet, in clear"
		}
		return "traffic of a tunnel that would leave in clear"
	case rules.PurposeStranger:
		return "a new flow of a stranger into a tunnel that takes any source"
	case rules.PurposeRestricted:
		return "the in, out or remote of the tunnel in the configuration does not allow it"
	case rules.PurposeLockdown:
		return "in by a wan interface, and lockdown lists no such service"
	case rules.PurposeAcceptIn:
		return "it is verified"
	case rules.PurposeAcceptOut:
		return "it goes into a tunnel"
	case rules.PurposeOpen:
		return "IKE, ESP and AH are accepted"
	case rules.PurposeService:
		return "lockdown lists this service"
	}
	return "no tunnel is concerned"
}

// words is the verdict as one or two sentences.
func (v Verdict) words(k walker, p passage, have live.Tables, isLive bool) string {
	what := "case " + v.Case
	switch {
	case v.Case == "":
		what = string(v.Name)
	case v.Name != "":
		what += " (" + string(v.Name) + ")"
	}
	what += ": " + reason(v.Name, v.Case)
	switch {
	case v.By == Kernel && v.Counter == xfrm.NoStates:
		return "dropped by the kernel (" + xfrm.NoStates + "): the tunnel is down, and the kernel asks the IKE daemon for an SA"
	case v.By == Kernel && v.Case == "9":
		return fmt.Sprintf("dropped by the kernel (%s)", v.Counter)
	case v.By == Kernel:
		return fmt.Sprintf("dropped by the kernel (%s); for xfrmfw %s", v.Counter, what)
	case v.Action == Accepted && v.Name == rules.PurposeOpen && p.way == toHost:
		return fmt.Sprintf("%s; accepted in %s %s. The decrypted packet is judged by itself (--reqid, --tag)", what, k.at.table, k.at.chain)
	case v.Action == Accepted:
		return fmt.Sprintf("%s; accepted in %s %s", what, k.at.table, k.at.chain)
	case v.Action == Dropped:
		return fmt.Sprintf("%s; dropped in %s %s", what, k.at.table, k.at.chain)
	case v.Action == Rejected:
		return fmt.Sprintf("%s; rejected in %s %s", what, k.at.table, k.at.chain)
	}
	if !isLive {
		return what
	}
	rest := live.ForeignIn(have, k.at.table, k.at.chain)
	if rest.Policy == "" {
		rest.Policy = "ACCEPT"
	}
	others := "no other rules"
	if rest.After > 0 {
		others = text.Count(rest.After, "other rule")
	}
	return fmt.Sprintf("%s; %s %s has %s, and its policy is %s", what, k.at.table, k.at.chain, others, rest.Policy)
}
