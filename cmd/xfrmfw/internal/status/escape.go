package status

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// escape shows text of any origin on one line: what is no visible character
// comes as \xNN or \u{...}, so that it neither acts on a terminal nor changes
// the order of what is read, and a backslash as two. Text that takes more than
// most columns is cut, and ends in "...".
func escape(text string, most int) string {
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
	case unseen(r):
		word := fmt.Sprintf(`\u{%x}`, r)
		return word, len(word)
	case wide(r):
		return as, 2
	}
	return as, 1
}

// unseen reports whether a character has no shape of its own: controls, format
// characters such as those that turn the direction of writing, all spaces but
// the plain one, marks that stack on others, and letters that are blank.
func unseen(r rune) bool {
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
	} {
		if block[0] <= r && r <= block[1] {
			return true
		}
	}
	return false
}

// columns is how many columns escaped text takes.
func columns(text string) int {
	n := 0
	for _, r := range text {
		n++
		if wide(r) {
			n++
		}
	}
	return n
}

// label shows a name or identity: as it is if it is a plain word, else in
// quotes, so that no spaces or commas within can pass for columns or words of ours.
func label(text string, most int) string {
	odd := func(r rune) bool {
		return !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_.:@%/=+-", r))
	}
	if text != "" && !strings.ContainsFunc(text, odd) {
		return escape(text, most)
	}
	// A line may be broken at a space, so each has to stay a single one.
	shown := strings.NewReplacer(`"`, `\"`, "  ", ` \x20`).Replace(escape(text, most-2))
	return `"` + shown + `"`
}
