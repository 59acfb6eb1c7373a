package doctor

import (
	"slices"
)

// Severity says how much a finding matters.
type Severity string

// The severities. Errors cut tunnel traffic or void the protection; warnings may
// do so, or hide trouble; notes are for the eye and no reason to act.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Note    Severity = "note"
)

func (s Severity) rank() int { return slices.Index([]Severity{Error, Warning, Note}, s) }

// Finding is one thing that is amiss.
type Finding struct {
	// Check names the kind of finding; it is stable.
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	// Seen is the observation, Breaks its effect.
	Seen   string `json:"seen"`
	Breaks string `json:"breaks"`
	// Mend are commands or lines of configuration, in this order; never nil.
	Mend []string `json:"mend"`
}

// Grave reports whether there is more than notes.
func Grave(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity != Note })
}
