package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/xfrmfw/xfrmfw/firewall"
)

// Report is the outcome in the shape of its JSON form.
type Report struct {
	Schema int `json:"schema"`
	// Time is in RFC 3339.
	Time    string `json:"time"`
	Variant string `json:"variant"`
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
		Schema: 1, Time: time.Unix(in.now(), 0).UTC().Format(time.RFC3339), Variant: in.Variant,
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

const (
	textWidth = 100
	indent    = "        "
)

// WriteText writes the report for a person to read. What was seen is one line, so
// that it can be searched for, and lines that mend are never broken.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	counts := make(map[Severity]int)
	for _, f := range r.Findings {
		counts[f.Severity]++
		b.WriteString(string(f.Severity) + ": " + clean(f.Seen) + " [" + f.Check + "]\n")
		wrap(&b, "  breaks  ", "  "+indent, f.Breaks)
		label := "  mend    "
		for _, line := range f.Mend {
			b.WriteString(label + clean(line) + "\n")
			label = "  " + indent
		}
		b.WriteByte('\n')
	}
	if len(r.Findings) == 0 {
		fmt.Fprintf(&b, "no findings: looked for %d kinds\n", r.Checks)
	} else {
		fmt.Fprintf(&b, "%s: %s, %s, %s\n", count(len(r.Findings), "finding"),
			count(counts[Error], "error"), count(counts[Warning], "warning"), count(counts[Note], "note"))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}

// wrap writes text broken at spaces, with a prefix before the first line and
// another before the rest.
func wrap(b *strings.Builder, first, rest, text string) {
	line, empty := first, true
	for _, word := range strings.Fields(clean(text)) {
		if !empty && len(line)+1+len(word) > textWidth {
			b.WriteString(line + "\n")
			line, empty = rest, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	b.WriteString(line + "\n")
}

// clean shows what could steer a terminal as its code: other programs' rules
// carry comments of all kinds.
func clean(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
	}
	return b.String()
}

// word is a name as it may stand in a command: one with other characters than
// these could be a command itself, and is left to be filled in.
func word(name string) string {
	for _, c := range name {
		if c > unicode.MaxASCII || !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("_.:+@-", c) {
			return "NAME"
		}
	}
	return name
}

// plain reports whether a rule may be pasted into a shell.
func plain(rule string) bool {
	return !strings.ContainsFunc(rule, func(c rune) bool {
		return c > unicode.MaxASCII || !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune(" _.:,+/-", c)
	})
}
