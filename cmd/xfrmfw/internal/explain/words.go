package explain

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
)

// reason says what a decisive purpose means for the packet.
func reason(name firewall.Purpose, number string) string {
	switch name {
	case firewall.PurposeVerified:
		return "it came out of the tunnel, between its selectors, and TAG confirms it"
	case firewall.PurposeRelated:
		return "an ICMP error out of the tunnel, about one of its flows"
	case firewall.PurposeIPComp:
		return "it carries a small packet of a tunnel with IPComp"
	case firewall.PurposePolicyOnly:
		return "it came out of the tunnel, between its selectors; no TAG can be had there"
	case firewall.PurposeUnconfirmed:
		return "it came out of the tunnel, between its selectors, but without TAG, which could be had"
	case firewall.PurposeOverlay:
		return "it came out of a device that unwraps what the tunnel protects"
	case firewall.PurposeStray:
		return "it carries our bits without being evidence; they are cleared"
	case firewall.PurposeSpoof:
		return "cleartext from a tunnel's remote to its local selector"
	case firewall.PurposeInject:
		return "a stranger's packet that the gateway would encrypt: its source does not live behind that interface"
	case firewall.PurposeCrossed:
		return "it came out of a tunnel that does not own its addresses"
	case firewall.PurposeUnknown:
		return "it came out of a state that no tunnel has"
	case firewall.PurposeLeak, firewall.PurposeReject:
		switch number {
		case "8b":
			return "an older NAT decision would take it out of its tunnel"
		case "8c":
			return "an ICMP error that quotes a tunnel's packet, in clear"
		}
		return "it belongs into a tunnel and would leave in clear"
	case firewall.PurposeStranger:
		return "a new flow of a stranger into a tunnel that takes any source"
	case firewall.PurposeRestricted:
		return "the tunnel's in:, out: or remote: does not let it through"
	case firewall.PurposeLockdown:
		return "it comes from outside, and lockdown does not let it in"
	case firewall.PurposeAcceptIn:
		return "it is verified"
	case firewall.PurposeAcceptOut:
		return "it goes into a tunnel"
	case firewall.PurposeOpen:
		return "IKE, ESP and AH may come and go"
	case firewall.PurposeService:
		return "lockdown lets it in"
	}
	return "nothing of a tunnel"
}

// words is the verdict as one or two sentences.
func (v Verdict) words(k walker, p passage, live firewall.Save, isLive bool) string {
	what := "case " + v.Case
	switch {
	case v.Case == "":
		what = string(v.Name)
	case v.Name != "":
		what += " (" + string(v.Name) + ")"
	}
	what += ": " + reason(v.Name, v.Case)
	switch {
	case v.By == Kernel && v.Counter == noStates:
		return "dropped by the kernel, which finds no state for it (" + noStates + ") and asks the IKE daemon for one: the tunnel is down"
	case v.By == Kernel && v.Case == "9":
		return fmt.Sprintf("dropped by the kernel (%s)", v.Counter)
	case v.By == Kernel:
		return fmt.Sprintf("dropped by the kernel (%s); for xfrmfw %s", v.Counter, what)
	case v.Action == Accepted && v.Name == firewall.PurposeOpen && p.way == toHost:
		return fmt.Sprintf("accepted in %s %s, %s; what comes out of it is judged by itself (--reqid, --tag)", k.at.table, k.at.chain, what)
	case v.Action == Accepted:
		return fmt.Sprintf("accepted in %s %s, %s", k.at.table, k.at.chain, what)
	case v.Action == Dropped:
		return fmt.Sprintf("dropped in %s %s, %s", k.at.table, k.at.chain, what)
	case v.Action == Rejected:
		return fmt.Sprintf("rejected in %s %s, %s", k.at.table, k.at.chain, what)
	}
	returned := "returned to the rest of the firewall, " + what
	if !isLive {
		return returned
	}
	rest := firewall.RestOf(live, k.at.table, k.at.chain)
	if rest.Policy == "" {
		rest.Policy = "ACCEPT"
	}
	others := text.Count(rest.After, "rule")
	if rest.After == 0 {
		others = "no rules"
	}
	return fmt.Sprintf("%s; there, %s of others in %s %s, then its policy %s", returned, others, k.at.table, k.at.chain, rest.Policy)
}
