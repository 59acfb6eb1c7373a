package gateway

import (
	"errors"
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// MarksError is the error of a host on which the bits of the packet mark can't be used.
type MarksError struct{ Err error }

// Error names the conflict and the remedy.
func (e *MarksError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *MarksError) Unwrap() error { return e.Err }

// chooseMarks returns the bits of the configuration, or free ones where it leaves the
// choice, and an error if a routing rule looks at them.
func chooseMarks(s xfrm.Snapshot, rules map[xfrm.Family]live.Tables, c firewall.Config) (firewall.Marks, error) {
	marks := c.Marks
	if c.AutoMarks {
		free, ok := firewall.FreeMarks(firewall.UsedMarks(s, live.WrittenMarks(rules)))
		if !ok {
			return marks, &MarksError{errors.New("choose marks: no two bits of the fwmark are free: narrow the masks of other programs, or name a pair by marks: {tag: ..., verified: ...}")}
		}
		marks = free
	}
	if err := firewall.CheckMarks(s, live.WrittenMarks(rules), marks); err != nil {
		return marks, &MarksError{fmt.Errorf("check marks: %w", err)}
	}
	return marks, nil
}

// MarkWarnings returns a warning for each live rule of others that writes our bits.
func (l Look) MarkWarnings() []string {
	var warnings []string
	if !l.foreignMatters {
		return nil
	}
	for _, m := range live.ForeignMarks(l.Live.Rules, l.Config.Marks.Both()) {
		effect := "clears VERIFIED on traffic that it meets after the rules of xfrmfw; narrow its mask"
		if m.Sets {
			effect = "can set the bits of xfrmfw on cleartext, which are cleared at the next hook; narrow its mask"
		}
		warnings = append(warnings, m.String()+": "+effect)
	}
	return warnings
}

// AllWarnings returns the warnings of a look, of its marks and of the compiler.
func (l Look) AllWarnings() []string {
	return slices.Concat(l.Warnings, l.MarkWarnings(), l.Result.Warnings)
}
