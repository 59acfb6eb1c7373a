package rules

// The purposes of our rules. They are part of each rule's comment, so they stay
// within its alphabet, and status and metrics add up counters by them. The
// numbers in brackets are the cases of the verdict table.
const (
	PurposeDispatch Purpose = "dispatch" // the way to a tunnel's rules
	PurposeExempt   Purpose = "exempt"   // never judged: loopback and the like
	PurposeDone     Purpose = "done"     // the verdict is found: leave the chain

	PurposeOpen     Purpose = "open"     // IKE, ESP and AH may come and go
	PurposeTag      Purpose = "tag"      // outer packet: set TAG
	PurposeUntagged Purpose = "untagged" // outer packet of a state that TAG would hide

	PurposeReset       Purpose = "reset"       // (5) every pass decides VERIFIED anew
	PurposeStray       Purpose = "stray"       // (5) our bits without evidence: cleared
	PurposeVerified    Purpose = "verified"    // (1) policy, selectors and TAG
	PurposePolicyOnly  Purpose = "policy-only" // (2) no TAG, and none could be had
	PurposeUnconfirmed Purpose = "unconfirmed" // (3) no TAG, though it could be had
	// (3) the same under enforce, where a chain of its own drops it
	PurposeUnconfirmedGuard Purpose = "guard-unconfirmed"
	PurposeRelated          Purpose = "related" // (1b) an ICMP error from inside a tunnel
	PurposeForeign          Purpose = "foreign" // (1b, 7b) another live tunnel owns the source
	PurposeIPComp           Purpose = "ipcomp"  // (1c) the carrier of a small packet
	PurposeOverlay          Purpose = "overlay" // (4) out of a device inside a tunnel
	PurposeUnknown          Purpose = "unknown" // (7b) decrypted, but by no tunnel that we know

	PurposeAcceptIn  Purpose = "accept-in"  // verified traffic is let in
	PurposeAcceptOut Purpose = "accept-out" // traffic into tunnels is let out
	PurposeStranger  Purpose = "stranger"   // (8e) a new flow from outside into a tunnel
	PurposeNAT       Purpose = "nat-exempt" // tunnel traffic keeps its addresses
	PurposeNATKeep   Purpose = "nat-keep"   // this tunnel's traffic may be rewritten
)

// The guards: packets that must not pass for tunnel traffic, or leave in its place.
const (
	PurposeSpoof   Purpose = "spoof"   // (6) from a remote selector, in clear
	PurposeInject  Purpose = "inject"  // (6b) a stranger's, to be encrypted
	PurposeCrossed Purpose = "crossed" // (7, 7b) out of a tunnel that does not own it
	PurposeLeak    Purpose = "leak"    // (8 to 8d) to a remote selector, in clear
	PurposeReject  Purpose = "reject"  // (8) tells the sender of a leak
	// The rules of single pairs that lead to those drops.
	PurposeSpoofGuard  Purpose = "guard-spoof"
	PurposeInjectGuard Purpose = "guard-inject"
	PurposeLeakGuard   Purpose = "guard-leak"
	PurposePierce      Purpose = "pierce" // a bypass policy comes first
	PurposeLAN         Purpose = "lan"    // a connected network under a wider selector
	PurposeLog         Purpose = "log"    // writes about a drop, at a bounded rate

	PurposeRestricted Purpose = "restricted" // services that a tunnel's in: or out: does not name
	PurposeLockdown   Purpose = "lockdown"   // from outside, and nothing that is let in
	PurposeMSS        Purpose = "mss"        // keeps TCP segments within the tunnel
	PurposeService    Purpose = "service"    // services that the configuration lets through
)
