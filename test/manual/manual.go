// Package manual takes out of README.md what its reader types, so that tests can run it as it stands there: a command that
// no longer works fails a test, and so does one that was never tried.
//
// What a reader types are the indented blocks; blocks between ``` are output, and files that no test installs.
package manual

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A Block is a block of commands, or a part of a file.
type Block struct {
	// Line is where it begins in README.md, from 1.
	Line int
	Text string
}

// Text is all of README.md.
func Text(t testing.TB) string {
	t.Helper()
	dir := "."
	const deep = 8 // no package is that far from the top
	var text []byte
	var err error
	for range deep {
		if text, err = os.ReadFile(filepath.Join(dir, "README.md")); err == nil {
			return string(text)
		}
		dir = filepath.Join(dir, "..")
	}
	t.Fatal(err)
	return ""
}

// Section returns the blocks below a heading, given with its #s, up to the next heading of any level. The test fails if
// the heading is not there, or nothing is below it.
func Section(t testing.TB, heading string) []Block {
	t.Helper()
	blocks, found := section(Text(t), heading)
	if !found {
		t.Fatalf("README.md has no %q", heading)
	}
	if len(blocks) == 0 {
		t.Fatalf("README.md has no commands below %q", heading)
	}
	return blocks
}

func section(text, heading string) (blocks []Block, found bool) {
	var block []string
	begin, fenced := 0, false
	end := func() {
		if text := unindent(block); text != "" {
			blocks = append(blocks, Block{Line: begin, Text: text})
		}
		block = nil
	}
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			end()
			fenced = !fenced
		case fenced:
		case strings.HasPrefix(line, "#"):
			end()
			if found {
				return blocks, true
			}
			found = line == heading
		case !found:
		case strings.HasPrefix(line, "    "):
			if block == nil {
				begin = i + 1
			}
			block = append(block, line)
		case line == "" && block != nil:
			block = append(block, line)
		default:
			end()
		}
	}
	end()
	return blocks, found
}

// unindent takes off what all lines begin with, and the empty lines at the end.
func unindent(lines []string) string {
	depth := -1
	for _, line := range lines {
		if words := strings.TrimLeft(line, " "); words != "" && (depth < 0 || len(line)-len(words) < depth) {
			depth = len(line) - len(words)
		}
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line[min(max(depth, 0), len(line)):] + "\n")
	}
	if text := strings.TrimRight(b.String(), "\n"); text != "" {
		return text + "\n"
	}
	return ""
}

// Find is the only block of a section that has a text.
func Find(t testing.TB, heading, text string) string {
	t.Helper()
	var found []string
	for _, b := range Section(t, heading) {
		if strings.Contains(b.Text, text) {
			found = append(found, b.Text)
		}
	}
	if len(found) != 1 {
		t.Fatalf("README.md has %d blocks with %q below %q, want 1", len(found), text, heading)
	}
	return found[0]
}

// An Example is a command of root's in README.md, after the prompt #, and what it prints.
type Example struct {
	Line            int
	Command, Output string
}

// Examples returns those between ``` whose command begins with these words.
func Examples(t testing.TB, command string) []Example {
	t.Helper()
	found := examples(Text(t), command)
	if len(found) == 0 {
		t.Fatalf("README.md has no example of %s", command)
	}
	return found
}

func examples(text, command string) (found []Example) {
	inside, fenced := false, false
	for i, line := range strings.Split(text, "\n") {
		words, prompt := strings.CutPrefix(line, "# ")
		switch {
		case strings.HasPrefix(line, "```"):
			fenced, inside = !fenced, false
		case !fenced:
		case prompt && strings.HasPrefix(words, command):
			inside = true
			found = append(found, Example{Line: i + 1, Command: words})
		case prompt && strings.HasPrefix(words, "xfrmfw "):
			inside = false
		case inside:
			found[len(found)-1].Output += line + "\n"
		}
	}
	return found
}
