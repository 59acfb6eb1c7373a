// Package manual reads README.md and the manual pages in cmd/xfrmfw/man for tests, which run the commands in them: a command
// that no longer works fails a test, and so does one that no test has tried.
//
// Indented blocks are commands and parts of files that a reader types. Blocks between ``` are output, and files that no
// test installs.
package manual

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A Document is README.md or a manual page.
type Document struct {
	// Name is its path below the top of the repository.
	Name string
	Text string
}

// A Block is a block of commands, or a part of a file.
type Block struct {
	// Document is the name of the document that has it.
	Document string
	// Line is where it begins there, from 1.
	Line int
	Text string
}

// Documents returns README.md and then the manual pages in the order of their names. The test fails if one can't be read.
func Documents(t testing.TB) []Document {
	t.Helper()
	top := "."
	const deep = 8 // no package is that far from the top
	for range deep {
		if _, err := os.Stat(filepath.Join(top, "go.mod")); err == nil {
			break
		}
		top = filepath.Join(top, "..")
	}
	pages, err := filepath.Glob(filepath.Join(top, "cmd/xfrmfw/man/*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no manual pages below %s: %v", top, err)
	}
	var all []Document
	for _, path := range append([]string{filepath.Join(top, "README.md")}, pages...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Document{Name: name, Text: string(text)})
	}
	return all
}

// Text returns the text of all documents.
func Text(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, d := range Documents(t) {
		b.WriteString(d.Text)
	}
	return b.String()
}

// Page returns the text of a manual page, named as xfrmfw.7 is.
func Page(t testing.TB, name string) string {
	t.Helper()
	for _, d := range Documents(t) {
		if d.Name == "cmd/xfrmfw/man/"+name+".md" {
			return d.Text
		}
	}
	t.Fatalf("there is no page %s", name)
	return ""
}

// Section returns the blocks below a heading, given with its #s, up to the next heading of any level. The test fails
// unless one document has the heading and it has blocks below it.
func Section(t testing.TB, heading string) []Block {
	t.Helper()
	var blocks []Block
	in := ""
	for _, d := range Documents(t) {
		found, ok := section(d.Text, heading)
		if !ok {
			continue
		}
		if in != "" {
			t.Fatalf("%s and %s have %q", in, d.Name, heading)
		}
		in, blocks = d.Name, found
	}
	if in == "" {
		t.Fatalf("no document has %q", heading)
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no commands below %q", in, heading)
	}
	for i := range blocks {
		blocks[i].Document = in
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

// unindent takes off the indentation common to all lines, and the empty lines at the end.
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

// Find returns the only block of a section that has a text.
func Find(t testing.TB, heading, text string) string {
	t.Helper()
	var found []string
	for _, b := range Section(t, heading) {
		if strings.Contains(b.Text, text) {
			found = append(found, b.Text)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d blocks with %q below %q, want 1", len(found), text, heading)
	}
	return found[0]
}

// An Example is a command in a block between ```, after root's prompt #, and the output that follows it.
type Example struct {
	Document        string
	Line            int
	Command, Output string
}

// Examples returns all documents' examples of commands that begin with these words. The
// test fails if there is none.
func Examples(t testing.TB, command string) []Example {
	t.Helper()
	var all []Example
	for _, d := range Documents(t) {
		found := examples(d.Text, command)
		for i := range found {
			found[i].Document = d.Name
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		t.Fatalf("no document has an example of %s", command)
	}
	return all
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
