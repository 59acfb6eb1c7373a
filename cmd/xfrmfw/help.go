package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/man"
)

// topicOf maps the manual pages that belong to no command to the words of "xfrmfw help".
var topicOf = map[string]string{
	"xfrmfw.7":         "concepts",
	"xfrmfw-recipes.7": "recipes",
	"xfrmfw-coexist.7": "coexist",
	"xfrmfw-operate.7": "operate",
	"xfrmfw.yaml.5":    "configuration",
	"xfrmfw-json.5":    "json",
}

// plainText takes the marks of Markdown out of a text.
var plainText = strings.NewReplacer("`", "", "*", "")

// groups are the headings of --help, each with its commands.
var groups = []struct {
	title    string
	commands []string
}{
	{"Apply:", []string{"apply", "confirm", "check", "clear", "forget"}},
	{"Look:", []string{"status", "explain", "prove", "test", "doctor", "snapshot", "config"}},
	{"Run:", []string{"daemon", "hook"}},
}

// addHelp adds the manual to the command tree: groups of commands, the pages of no command as help topics, and for each
// command the title, the description and the examples of its page. A damaged page fails a test, and the binary then has
// no help.
func addHelp(root *cobra.Command) {
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, cmd := range root.Commands() {
			if slices.Contains(g.commands, cmd.Name()) {
				cmd.GroupID = g.title
			}
		}
	}
	pages, _ := man.Pages()
	for _, p := range pages {
		if topic, ok := topicOf[p.Name+"."+p.Section]; ok {
			root.AddCommand(&cobra.Command{Use: topic, Aliases: []string{p.Name}, Short: p.Title, Long: p.Text()})
			continue
		}
		for _, cmd := range append(root.Commands(), root) {
			if p.Name == strings.ReplaceAll(cmd.CommandPath(), " ", "-") {
				cmd.Short = strings.ToUpper(p.Title[:1]) + p.Title[1:]
				cmd.Long = plainText.Replace(p.Part("DESCRIPTION"))
				cmd.Example = commandLines(p.Part("EXAMPLES"))
			}
		}
	}
}

// commandLines returns the commands among the examples of a page: the indented lines, in the indentation of --help.
func commandLines(text string) string {
	var lines []string
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if words, ok := strings.CutPrefix(line, "    "); ok && !fenced {
			lines = append(lines, "  "+strings.TrimRight(words, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}
