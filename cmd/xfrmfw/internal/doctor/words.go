package doctor

import (
	"strings"
	"unicode"
)

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
