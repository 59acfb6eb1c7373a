package xfrm

// Snapshot is one reading of the kernel. The dumps behind it are not atomic:
// the caller that acts on a snapshot reads again afterwards, until nothing changed.
type Snapshot struct {
	// Schema is the version of the JSON form, at present 1.
	Schema   int      `json:"schema"`
	States   []State  `json:"states"`
	Policies []Policy `json:"policies"`
	Host     Host     `json:"host"`
	// Skipped lists the messages that could not be understood, for status.
	Skipped []Ignored `json:"skipped,omitempty"`
	// Time is when the snapshot was taken, in seconds since the epoch.
	Time int64 `json:"time,omitzero"`
}

// SchemaVersion is the version of a Snapshot's JSON form.
const SchemaVersion = 1

// Ignored is an object that no rule is made for, and why.
type Ignored struct {
	Object string `json:"object"`
	Reason string `json:"reason"`
}

// The reasons of objects that each gateway with an IKE daemon has.
const (
	reasonSockets = "they exempt an IKE daemon's own sockets"
	reasonLarval  = "no keys yet: the IKE daemon is still negotiating"
)

// Usual reports whether a gateway that works has such objects: the policies of an IKE
// daemon's own sockets, and states that it still negotiates.
func (i Ignored) Usual() bool { return i.Reason == reasonSockets || i.Reason == reasonLarval }

// maxSkipped bounds the list of skipped objects.
const maxSkipped = 1000

// Skip notes that an object is not in the snapshot. The list is bounded: after
// a thousand entries one more says that there are others, and the rest is lost.
func (s *Snapshot) Skip(object, reason string) {
	switch n := len(s.Skipped); {
	case n < maxSkipped:
		s.Skipped = append(s.Skipped, Ignored{Object: object, Reason: reason})
	case n == maxSkipped:
		s.Skipped = append(s.Skipped, Ignored{Object: "others", Reason: "the list is full"})
	}
}
