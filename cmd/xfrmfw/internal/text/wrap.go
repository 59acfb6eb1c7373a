package text

import "strings"

// Wrap breaks text at spaces into lines of at most width columns. The first line begins
// with prefix, the others with as many spaces. A word that is longer than a line is
// broken.
func Wrap(width int, prefix, text string) []string {
	var lines []string
	indent := strings.Repeat(" ", Columns(prefix))
	current, used := prefix, Columns(prefix)
	empty := true
	for _, w := range strings.Fields(text) {
		wide := Columns(w)
		if !empty && used+1+wide > width {
			lines = append(lines, current)
			current, used, empty = indent, len(indent), true
		}
		if !empty {
			current += " "
			used++
		}
		// A base64 identity fits no line, for example.
		for len(indent)+wide > width {
			part := beginning(w, width-used)
			lines = append(lines, current+part)
			w = w[len(part):]
			wide = Columns(w)
			current, used = indent, len(indent)
		}
		current += w
		used += wide
		empty = false
	}
	return append(lines, current)
}

// beginning returns the longest beginning of a word that takes at most most columns.
func beginning(w string, most int) string {
	n := 0
	for i, r := range w {
		n++
		if wide(r) {
			n++
		}
		if n > max(most, 2) {
			return w[:i]
		}
	}
	return w
}

// Fit cuts text that takes more than most columns, and ends it in "~".
func Fit(text string, most int) string {
	if Columns(text) <= most {
		return text
	}
	return beginning(text, most-1) + "~"
}
