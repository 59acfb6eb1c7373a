package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/pflag"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/man"
	"github.com/xfrmfw/xfrmfw/test/manual"
)

func manPages(t *testing.T) []man.Page {
	t.Helper()
	pages, err := man.Pages()
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// TestManPages writes the manual pages, into the directory XFRMFW_MAN if it is set: scripts/package calls it for that. It
// is a test and no command, because the binary would carry the renderer otherwise.
func TestManPages(t *testing.T) {
	dir := os.Getenv("XFRMFW_MAN")
	if dir == "" {
		dir = t.TempDir()
	}
	date := time.Unix(0, 0).UTC()
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		var seconds int64
		if _, err := fmt.Sscan(text, &seconds); err != nil {
			t.Fatalf("SOURCE_DATE_EPOCH: %v", err)
		}
		date = time.Unix(seconds, 0).UTC()
	}
	for _, p := range manPages(t) {
		if strings.Contains(p.Body, "\n|") {
			t.Errorf("%s(%s) has a table: the renderer tears its cells apart, so write a list", p.Name, p.Section)
		}
		if line := tooWide(p.Body); line != "" {
			t.Errorf("%s(%s) has prose of more than 80 columns, and help prints it as it stands: %s", p.Name, p.Section, line)
		}
		page := render(p, date)
		plain := bytes.ReplaceAll(page, []byte(`\-`), []byte("-"))
		for _, want := range []string{".TH ", ".SH NAME\n" + p.Name + " - " + p.Title + "\n"} {
			if !bytes.Contains(plain, []byte(want)) {
				t.Errorf("%s.%s lacks %q:\n%.300s", p.Name, p.Section, want, plain)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, p.Name+"."+p.Section), page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// tooWide returns the first line of prose that a terminal of 80 columns would break, empty if there is none.
func tooWide(body string) string {
	fenced := false
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case !fenced && !strings.HasPrefix(line, "    ") && utf8.RuneCountInString(line) > 80:
			return line
		}
	}
	return ""
}

var (
	sectionHeading = regexp.MustCompile(`(?m)^## .*`)
	links          = regexp.MustCompile(`\[([^]]*)\]\([^)]*\.md[^)]*\)`)
)

// render returns a page in the format of man. Links to other pages keep their text alone.
func render(p man.Page, date time.Time) []byte {
	manual := map[string]string{"5": "File Formats", "7": "Miscellaneous", "8": "System Administration"}[p.Section]
	body := links.ReplaceAllString(p.Body, "$1")
	body = sectionHeading.ReplaceAllStringFunc(body, strings.ToUpper)
	return md2man.Render(fmt.Appendf(nil, "%% %q %q %q %q %q\n\n## NAME\n\n%s - %s\n\n%s",
		strings.ToUpper(p.Name), p.Section, date.Format("Jan 2006"), "xfrmfw", manual, p.Name, p.Title, body))
}

// TestManPagesOfCommands compares the pages of section 8 with the commands: one page each, with the same flags and
// all sections that a reader looks for.
func TestManPagesOfCommands(t *testing.T) {
	pages := map[string]man.Page{}
	for _, p := range manPages(t) {
		if p.Section == "8" {
			pages[p.Name] = p
		}
	}
	root, _ := newRoot()
	root.InitDefaultCompletionCmd()
	page(t, pages, "xfrmfw", root.LocalFlags())
	for _, cmd := range root.Commands() {
		if !cmd.IsAvailableCommand() || cmd.Name() == "help" {
			continue
		}
		name := "xfrmfw-" + cmd.Name()
		p := page(t, pages, name, cmd.LocalNonPersistentFlags())
		if p.Part("EXAMPLES") == "" {
			t.Errorf("%s(8) has no EXAMPLES", name)
		}
	}
	for name := range pages {
		t.Errorf("%s(8) is of no command", name)
	}
}

// inDocument matches the program's commands in a document: in blocks of commands and of output, and in prose.
var inDocument = regexp.MustCompile("(?m)(?:^(?:    |# )(?:.*(?:&&|\\|\\|) )?|`)(xfrmfw [a-z][^`\n]*)")

// TestCommandsInDocuments is that each command of xfrmfw in README.md and the manual is one, with its options. Tests in the
// lab run the most of them.
func TestCommandsInDocuments(t *testing.T) {
	commands := 0
	for _, d := range manual.Documents(t) {
		for _, found := range inDocument.FindAllStringSubmatch(d.Text, -1) {
			line := found[1]
			for _, end := range []string{" #", " >", " |", " &&", ";"} {
				line, _, _ = strings.Cut(line, end)
			}
			commands++
			root, _ := newRoot()
			root.InitDefaultHelpCmd()
			root.InitDefaultCompletionCmd()
			cmd, rest, err := root.Find(strings.Fields(line)[1:])
			if prose := strings.HasPrefix(found[0], "`"); err == nil && prose {
				for _, word := range rest { // an option may stand without its value, or with a word for any value
					name, ok := strings.CutPrefix(word, "--")
					if name, _, _ = strings.Cut(name, "="); ok && cmd.Flag(name) == nil {
						err = fmt.Errorf("it has no option --%s", name)
					}
				}
			} else if err == nil {
				if err = cmd.ParseFlags(rest); err == nil {
					err = cmd.ValidateArgs(cmd.Flags().Args())
				}
			}
			if err != nil {
				t.Errorf("%s: %s: %v", d.Name, line, err)
			}
		}
	}
	if commands < 100 {
		t.Errorf("only %d commands found", commands)
	}
}

var optionLine = regexp.MustCompile("(?m)^- `--([a-z-]+)")

// page takes the page of a command out of the map, and compares its options with the command's flags.
func page(t *testing.T, pages map[string]man.Page, name string, flags *pflag.FlagSet) man.Page {
	t.Helper()
	p, ok := pages[name]
	if !ok {
		t.Errorf("there is no page %s(8)", name)
	}
	delete(pages, name)
	for _, heading := range []string{"SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"} {
		if p.Part(heading) == "" {
			t.Errorf("%s(8) has no %s", name, heading)
		}
	}
	told := map[string]bool{}
	for _, words := range optionLine.FindAllStringSubmatch(p.Part("OPTIONS"), -1) {
		told[words[1]] = true
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if !told[f.Name] {
			t.Errorf("%s(8) lacks --%s", name, f.Name)
		}
		delete(told, f.Name)
	})
	for option := range told {
		t.Errorf("%s(8) has --%s, and the command has not", name, option)
	}
	return p
}

// TestTopics is that each page without a command of its own is a topic of help, and prints as it stands.
func TestTopics(t *testing.T) {
	for _, p := range manPages(t) {
		if p.Section == "8" {
			continue
		}
		topic, ok := topicOf[p.Name+"."+p.Section]
		if !ok {
			t.Errorf("%s(%s) is no topic", p.Name, p.Section)
			continue
		}
		root, _ := newRoot()
		var out strings.Builder
		root.SetOut(&out)
		root.SetArgs([]string{"help", topic})
		if err := root.Execute(); err != nil || strings.TrimSpace(out.String()) != strings.TrimSpace(p.Text()) {
			t.Errorf("xfrmfw help %s: %v\n%.300s", topic, err, out.String())
		}
	}
}

// TestHelp is that each command is in a group, and has the texts of its page.
func TestHelp(t *testing.T) {
	root, _ := newRoot()
	for _, cmd := range append(root.Commands(), root) {
		switch {
		case cmd.IsAdditionalHelpTopicCommand():
			continue
		case cmd.Name() == "help":
			continue
		case cmd != root && cmd.Name() != "version" && cmd.GroupID == "":
			t.Errorf("%s is in no group", cmd.Name())
		case cmd.Short == "" || cmd.Long == "" || !strings.Contains(cmd.Example, "xfrmfw"):
			t.Errorf("%s lacks texts: short %q, long %q, examples %q", cmd.Name(), cmd.Short, cmd.Long, cmd.Example)
		}
	}
}
