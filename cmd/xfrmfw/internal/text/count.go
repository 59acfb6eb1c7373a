package text

import (
	"fmt"
	"strings"
)

// Count returns a number with its noun, such as "1 tunnel" or "2 tunnels".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// FirstOf joins the first three entries of a list and gives the number of the others.
func FirstOf(list []string) string {
	const shown = 3
	if len(list) <= shown {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:shown], "; "), len(list)-shown)
}
