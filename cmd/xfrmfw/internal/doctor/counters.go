package doctor

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// meaning is the meaning of a counter of /proc/net/xfrm_stat, and the cause that is usually
// behind it (net/xfrm/xfrm_proc.c, Documentation/networking/xfrm_proc.rst).
type meaning struct{ counts, cause string }

// meanings of the kernel's counters. Those that are not listed are shown by name.
func meanings() map[string]meaning {
	return map[string]meaning{
		"XfrmInError":             {"incoming packets that failed for another reason", "a broken or truncated packet"},
		"XfrmInBufferError":       {"incoming packets for which there was no buffer", "memory is short"},
		"XfrmInHdrError":          {"incoming packets with a bad header", "broken packets, or an MTU problem on the way"},
		"XfrmInNoStates":          {"ESP for which there is no SA", "the peer uses an SA that this host has lost (it restarted, or deleted it first), a mark or if_id that doesn't fit, or an attacker sends random SPIs"},
		"XfrmInStateProtoError":   {"packets that could not be decrypted", "the keys differ, or packets are damaged or forged"},
		"XfrmInStateModeError":    {"packets whose mode is not the SA's", "one side uses tunnel mode and the other transport"},
		"XfrmInStateSeqError":     {"packets outside of the replay window", "packets overtake each other (several queues or paths): raise the replay window; or an attacker replays them"},
		"XfrmInStateExpired":      {"packets of an SA that has expired", "a rekey came too late: look at the IKE daemon's log"},
		"XfrmInStateMismatch":     {"packets that don't fit their SA's selector or encapsulation", "the peer sends packets that were not negotiated, or UDP encapsulation is used on one side only"},
		"XfrmInStateInvalid":      {"packets of an SA that is being negotiated or deleted", "packets in flight while a connection ends"},
		"XfrmInTmplMismatch":      {"packets that a policy wants encrypted and that came in clear, or by another SA", "spoofed packets, a peer that lets traffic out in clear, or NAT at the peer that its policy doesn't see"},
		"XfrmInNoPols":            {"packets that came out of an SA and that no policy allows", "the selectors differ, an xfrm interface is missing, or a mark is needed to find the policy"},
		"XfrmInPolBlock":          {"incoming packets that a block policy forbids", "a block policy in the IKE daemon's configuration, or setdefault block"},
		"XfrmInPolError":          {"incoming packets on which the policies failed", "more transforms than the kernel takes"},
		"XfrmAcquireError":        {"packets that no acquire could be sent for", "no IKE daemon listens"},
		"XfrmFwdHdrError":         {"forwarded packets with a bad header", "broken packets"},
		"XfrmInStateDirError":     {"packets that came in by an outbound SA", "the two directions of an SA are mixed up: manual keying, or a bug of the IKE daemon"},
		"XfrmOutError":            {"outgoing packets that failed for another reason", "packets larger than the path takes and not to be fragmented"},
		"XfrmOutBundleGenError":   {"outgoing packets for which no transform could be put together", "a template that doesn't fit the route"},
		"XfrmOutBundleCheckError": {"outgoing packets whose transform was no longer valid", "routes or SAs changed meanwhile"},
		"XfrmOutNoStates":         {"outgoing packets for which there is no SA", "the tunnel is down: the IKE daemon has not answered the kernel's acquire"},
		"XfrmOutStateProtoError":  {"outgoing packets that could not be encrypted", "an algorithm's module is missing or broken"},
		"XfrmOutStateModeError":   {"outgoing packets that don't fit the SA's mode", "a packet too large for transport mode, or of the other family"},
		"XfrmOutStateSeqError":    {"outgoing packets when the sequence numbers were used up", "no rekey came in time: use ESN, or a shorter lifetime"},
		"XfrmOutStateExpired":     {"outgoing packets of an SA that has expired", "a rekey came too late: look at the IKE daemon's log"},
		"XfrmOutPolBlock":         {"outgoing packets that a block policy forbids", "a block policy in the IKE daemon's configuration, or setdefault block"},
		"XfrmOutPolDead":          {"outgoing packets of a policy that is being deleted", "packets in flight while a connection ends"},
		"XfrmOutPolError":         {"outgoing packets on which the policies failed", "more transforms than the kernel takes"},
		"XfrmOutStateInvalid":     {"outgoing packets of an SA that is being negotiated or deleted", "packets in flight while a connection ends"},
		"XfrmOutStateDirError":    {"packets that were to leave by an inbound SA", "the two directions of an SA are mixed up: manual keying, or a bug of the IKE daemon"},
		"XfrmInIptfsError":        {"IPTFS packets that could not be taken apart", "the peer's packets are broken or lost"},
		"XfrmOutNoQueueSpace":     {"packets for which the IPTFS queue was full", "more traffic than the tunnel's fixed rate"},
	}
}

// counters are the kernel's error counters that grow, each in words.
func counters(in Input) []Finding {
	var found []Finding
	before, after := in.Counters[0], in.Counters[1]
	known := meanings()
	for _, name := range slices.Sorted(maps.Keys(after)) {
		grown := after[name] - before[name]
		if after[name] <= before[name] {
			continue
		}
		m, ok := known[name]
		if !ok {
			m = meaning{"packets that IPsec refused", "see Documentation/networking/xfrm_proc.rst of the kernel"}
		}
		found = append(found, Finding{
			Severity: Warning, Seen: fmt.Sprintf("%s grew by %d within %s, to %d: %s", name, grown, in.Apart.Round(time.Second/10), after[name], m.counts),
			Breaks: "these packets are lost; likely: " + m.cause,
			Mend:   []string{"ip -s xfrm state; ip -s xfrm policy    # which SA or policy counts errors; then the IKE daemon's log on both sides"},
		})
	}
	return found
}
