package firewall

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
