package text

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes text of any origin safe to print on one line. Characters without a
// shape of their own become \xNN or \u{...}, so that they neither act on a terminal nor
// change the direction of writing; a backslash becomes two. Text that takes more than
// most columns is cut and ends in "...".
func Escape(text string, most int) string {
	const cut = "..."
	var b strings.Builder
	columns := 0
	fits := -1
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		word, wide := escapeRune(r, text[i:i+size])
		i += size
		if fits < 0 && columns+wide > most-len(cut) {
			fits = b.Len()
		}
		columns += wide
		if columns > most {
			return b.String()[:fits] + cut
		}
		b.WriteString(word)
	}
	return b.String()
}

// escapeRune returns how a character is shown, and in how many columns.
func escapeRune(r rune, as string) (string, int) {
	switch {
	case r == '\\':
		return `\\`, 2
	case ' ' <= r && r < 0x7f:
		return as, 1
	case r == utf8.RuneError && len(as) == 1, r < 0x80:
		return fmt.Sprintf(`\x%02x`, as[0]), 4
	case Unseen(r):
		word := fmt.Sprintf(`\u{%x}`, r)
		return word, len(word)
	case wide(r):
		return as, 2
	}
	return as, 1
}

// Unseen reports whether a character has no shape of its own: controls, format
// characters such as those that turn the direction of writing, all spaces but
// the plain one, marks that stack on others, and letters that are blank.
func Unseen(r rune) bool {
	return !unicode.IsPrint(r) || unicode.Is(unicode.M, r) ||
		r == 0x115f || r == 0x1160 || r == 0x3164 || r == 0xffa0 || r == 0x2800
}

// wide reports whether terminals give a character two columns (roughly Unicode
// Standard Annex 11: wide and fullwidth).
func wide(r rune) bool {
	for _, block := range [...][2]rune{
		{0x1100, 0x115f}, {0x231a, 0x231b}, {0x23e9, 0x23f3}, {0x25fd, 0x25fe}, {0x2614, 0x2615}, {0x2648, 0x2653},
		{0x267f, 0x26ff}, {0x2705, 0x27bf}, {0x2b1b, 0x2b55}, {0x2e80, 0xa4cf}, {0xa960, 0xa97f}, {0xac00, 0xd7a3},
		{0xf900, 0xfaff}, {0xfe10, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x16fe0, 0x18dff}, {0x1aff0, 0x1b2ff},
		{0x1d300, 0x1d37f}, {0x1f000, 0x1faff}, {0x20000, 0x3fffd},
	} { // in ascending order
		if r <= block[1] {
			return block[0] <= r
		}
	}
	return false
}

// Columns returns the number of columns that escaped text takes on a terminal.
func Columns(text string) int {
	n := 0
	for _, r := range text {
		n++
		if wide(r) {
			n++
		}
	}
	return n
}

// Label shows a name or an identity in at most most columns: a plain word as it is, any
// other text in quotes, so that its spaces and commas can't pass for columns or words
// of the output.
func Label(text string, most int) string {
	odd := func(r rune) bool {
		return !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_.:@%/=+-", r))
	}
	if text != "" && !strings.ContainsFunc(text, odd) {
		return Escape(text, most)
	}
	// Wrap breaks lines at spaces, so several in a row are shown as their code.
	shown := strings.NewReplacer(`"`, `\"`, "  ", ` \x20`).Replace(Escape(text, most-2))
	return `"` + shown + `"`
}

// Visible replaces each character that could act on a terminal by its code as Go writes
// it. Backslashes stay, so that a line that may be pasted into a shell stays one.
func Visible(text string) string {
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

// OneLine makes text one line of a log: a newline becomes "|", any other character that
// can't be printed "?".
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return '|'
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.TrimSpace(text))
}
