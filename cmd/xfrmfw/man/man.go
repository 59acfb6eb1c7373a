// Package man holds the manual pages of xfrmfw, one Markdown file each, named NAME.SECTION.md. The first line of a page is
// its title, "# NAME(SECTION) - DESCRIPTION"; below, ## begins a section. The same text is read in a browser, on a
// terminal by "xfrmfw help TOPIC", and, rendered by a test, with man. The package does not render it.
package man

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed *.md
var files embed.FS

// A Page is one manual page.
type Page struct {
	Name    string // as in the file's name, such as "xfrmfw-apply"
	Section string // "5", "7" or "8"
	Title   string // the title's description, without a full stop
	Body    string // Markdown below the title
}

// Pages returns all pages in the order of their files' names. It fails only if a file of this package is no page.
func Pages() ([]Page, error) {
	names, err := fs.Glob(files, "*.md")
	if err != nil {
		return nil, err
	}
	var pages []Page
	for _, file := range names {
		text, err := files.ReadFile(file)
		if err != nil {
			return nil, err
		}
		p, err := parse(file, string(text))
		if err != nil {
			return nil, err
		}
		pages = append(pages, p)
	}
	return pages, nil
}

func parse(file, text string) (Page, error) {
	base := strings.TrimSuffix(file, ".md")
	dot := strings.LastIndex(base, ".")
	if dot < 0 {
		return Page{}, fmt.Errorf("%s: want NAME.SECTION.md", file)
	}
	p := Page{Name: base[:dot], Section: base[dot+1:]}
	title, body, _ := strings.Cut(text, "\n")
	begin := fmt.Sprintf("# %s(%s) - ", p.Name, p.Section)
	var ok bool
	if p.Title, ok = strings.CutPrefix(title, begin); !ok {
		return Page{}, fmt.Errorf("%s: its first line is %q, want %q and a description", file, title, begin)
	}
	p.Body = strings.TrimLeft(body, "\n")
	return p, nil
}

// Text is the page as Markdown.
func (p Page) Text() string {
	return fmt.Sprintf("# %s(%s) - %s\n\n%s", p.Name, p.Section, p.Title, p.Body)
}

// Part returns a section's text without its heading, empty if the page has no such section.
func (p Page) Part(heading string) string {
	_, rest, ok := strings.Cut("\n"+p.Body, "\n## "+heading+"\n")
	if !ok {
		return ""
	}
	part, _, _ := strings.Cut(rest, "\n## ")
	return strings.Trim(part, "\n")
}
