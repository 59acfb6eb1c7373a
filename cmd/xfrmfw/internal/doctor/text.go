package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
)

// Report is the outcome in the shape of its JSON form.
type Report struct {
	Schema int `json:"schema"`
	// Time is in RFC 3339.
	Time string `json:"time"`
	// Engine is "iptables" or "nftables".
	Engine string `json:"engine"`
	// Variant is that of iptables, empty, and null in JSON, without it.
	Variant text.OrNull `json:"variant"`
	Marks   struct {
		Tag      uint32 `json:"tag"`
		Verified uint32 `json:"verified"`
	} `json:"marks"`
	// Checks is how many kinds of findings were looked for.
	Checks   int       `json:"checks"`
	Findings []Finding `json:"findings"`
}

// NewReport examines the input and reports on it.
func NewReport(in Input) Report {
	r := Report{
		Schema: 1, Time: time.Unix(in.now(), 0).UTC().Format(time.RFC3339), Engine: in.Engine, Variant: text.OrNull(in.Variant),
		Checks: len(checks()), Findings: Examine(in),
	}
	r.setMarks(in.Config.Marks)
	return r
}

func (r *Report) setMarks(m firewall.Marks) { r.Marks.Tag, r.Marks.Verified = m.Tag, m.Verified }

// WriteJSON writes the report as JSON.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}

// textWidth is the width of the lines that may be broken.
const textWidth = 100

// WriteText writes the report for a person to read. An observation is one line, so
// that it can be searched for, and lines that mend are never broken.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	counts := make(map[Severity]int)
	for _, f := range r.Findings {
		counts[f.Severity]++
		b.WriteString(string(f.Severity) + ": " + text.Visible(f.Seen) + " [" + f.Check + "]\n")
		for _, line := range text.Wrap(textWidth, "  effect  ", text.Visible(f.Breaks)) {
			b.WriteString(line + "\n")
		}
		label := "  fix     "
		for _, line := range f.Mend {
			b.WriteString(label + text.Visible(line) + "\n")
			label = strings.Repeat(" ", len(label))
		}
		b.WriteByte('\n')
	}
	if len(r.Findings) == 0 {
		fmt.Fprintf(&b, "no findings: looked for %d kinds\n", r.Checks)
	} else {
		fmt.Fprintf(&b, "%s: %s, %s, %s. Explained by: xfrmfw help doctor\n", text.Count(len(r.Findings), "finding"),
			text.Count(counts[Error], "error"), text.Count(counts[Warning], "warning"), text.Count(counts[Note], "note"))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}
