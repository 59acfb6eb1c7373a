package main

import (
	"bytes"
	"fmt"
	"io"
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
	{"Run:", []string{"daemon", "hook", "version", "completion", "help"}},
}

// addHelp adds the manual to the command tree: groups of commands, the pages of no command as help topics, and for each
// command the title, the description, the findings and the examples of its page. A damaged page fails a test, and the binary
// then has no help.
func addHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, cmd := range root.Commands() {
			if slices.Contains(g.commands, cmd.Name()) {
				cmd.GroupID = g.title
			}
		}
	}
	help, _, _ := root.Find([]string{"help"})
	help.Short = "Print the help of a command, or a page of the manual"
	help.Args = func(_ *cobra.Command, args []string) error {
		if _, _, err := root.Find(args); err != nil {
			return usageError(fmt.Sprintf("no command or topic is named %q", strings.Join(args, " ")))
		}
		return nil
	}
	plainFlags(root)
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
				if kinds := p.Part("FINDINGS"); kinds != "" {
					cmd.Long += "\n\nFindings:\n\n" + plainText.Replace(kinds)
				}
				cmd.Example = commandLines(p.Part("EXAMPLES"))
			}
		}
	}
}

// plainFlags takes "[=true|false]" out of the list of flags, and the columns of blanks that it costs.
func plainFlags(root *cobra.Command) {
	usage := root.UsageFunc()
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		out, text := cmd.OutOrStderr(), new(bytes.Buffer)
		cmd.SetOut(text)
		err := usage(cmd)
		cmd.SetOut(out)
		if err != nil {
			return err
		}
		blocks := strings.Split(text.String(), "\n\n")
		for i := range blocks {
			blocks[i] = plainBlock(blocks[i])
		}
		_, err = io.WriteString(out, strings.Join(blocks, "\n\n"))
		return err
	})
}

// plainBlock is plainFlags for one block of lines.
func plainBlock(block string) string {
	const toggle = "[=true|false]"
	lines := strings.Split(block, "\n")
	spare := len(toggle)
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimLeft(line, " "), "-") {
			if at := strings.Index(line, toggle); at >= 0 {
				line = line[:at] + strings.Repeat(" ", len(toggle)) + line[at+len(toggle):]
			}
			lines[i] = line
			words := strings.TrimLeft(line, " ")
			_, usage, _ := strings.Cut(words, "   ")
			spare = min(spare, len(usage)-len(strings.TrimLeft(usage, " ")))
		}
	}
	for i, line := range lines {
		if words := strings.TrimLeft(line, " "); strings.HasPrefix(words, "-") {
			flag, usage, _ := strings.Cut(words, "   ")
			lines[i] = line[:len(line)-len(words)] + flag + "   " + usage[spare:]
		}
	}
	return strings.Join(lines, "\n")
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
