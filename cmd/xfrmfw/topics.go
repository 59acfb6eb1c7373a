package main

import (
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

// addTopics adds the manual to the command tree: its pages as help topics, and the examples of the commands' pages to
// their --help. A damaged page fails a test, and is left out here.
func addTopics(root *cobra.Command) {
	pages, _ := man.Pages()
	for _, p := range pages {
		if topic, ok := topicOf[p.Name+"."+p.Section]; ok {
			root.AddCommand(&cobra.Command{Use: topic, Aliases: []string{p.Name}, Short: p.Title, Long: p.Text()})
		}
		for _, cmd := range root.Commands() {
			if p.Name == root.Name()+"-"+cmd.Name() && p.Section == "8" {
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
