package iptables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Save reads the live rules of a family.
func (p *Programs) Save(ctx context.Context, family xfrm.Family) (live.Tables, error) {
	program, ok := p.families[family]
	if !ok {
		return live.Tables{}, fmt.Errorf("save (%s): no programs of this family", family)
	}
	return p.saveWith(ctx, family, program.save)
}

func (p *Programs) saveWith(ctx context.Context, family xfrm.Family, path string) (live.Tables, error) {
	var parser live.Parser
	stderr, err := p.run(ctx, p.options.Timeout, "", &parser, path, "-c")
	if err != nil {
		if said := gist(stderr); said != "" {
			return live.Tables{}, fmt.Errorf("save (%s): %s: %w", family, said, classify(err, stderr))
		}
		return live.Tables{}, fmt.Errorf("save (%s): %w", family, err)
	}
	save, err := parser.Tables()
	if err != nil {
		return live.Tables{}, fmt.Errorf("save (%s): %w", family, err)
	}
	return save, nil
}

// SaveAll reads the live rules of all families, as plan.Make wants them. The
// programs run at the same time.
func (p *Programs) SaveAll(ctx context.Context) (map[xfrm.Family]live.Tables, error) {
	families := p.Families()
	read := make([]live.Tables, len(families))
	failed := make([]error, len(families))
	var all sync.WaitGroup
	for i, family := range families {
		all.Add(1)
		go func() {
			defer all.Done()
			read[i], failed[i] = p.Save(ctx, family)
		}()
	}
	all.Wait()
	saves := make(map[xfrm.Family]live.Tables)
	for i, family := range families {
		if failed[i] != nil {
			return nil, failed[i]
		}
		saves[family] = read[i]
	}
	return saves, nil
}

// Restore feeds text, which is of one table, to iptables-restore --noflush. The
// error is a *RestoreError; nothing of the text has then taken effect, unless the
// program had to be killed, which its Err says.
func (p *Programs) Restore(ctx context.Context, family xfrm.Family, text string, counters bool) error {
	program, ok := p.families[family]
	if !ok {
		return fmt.Errorf("restore (%s): no programs of this family", family)
	}
	args := []string{"--noflush", "-w", strconv.Itoa(seconds(p.options.Wait))}
	if counters {
		args = append(args, "--counters")
	}
	// A large text takes 2 ms a line on the slowest of machines.
	timeout := p.options.Timeout + time.Duration(strings.Count(text, "\n"))*2*time.Millisecond
	stderr, err := p.run(ctx, timeout, text, io.Discard, program.restore, args...)
	if err == nil {
		return nil
	}
	return restoreError(family, text, stderr, err, loaded)
}

var (
	lineFailed = regexp.MustCompile(`(?m)(?:^|: )line (\d+)(?: failed|: \w+ failed)`)
	lineNamed  = regexp.MustCompile(`(?m)(?:at line: |^.*: line |expected at line )(\d+)`)
	noChain    = regexp.MustCompile(`Chain '([^']+)' does not exist`)
	noModule   = regexp.MustCompile("Couldn't load (match|target) `([^']+)'")
)

// restoreError finds the line at fault in a program's message.
func restoreError(family xfrm.Family, text, stderr string, err error, loaded func(xfrm.Family) words) *RestoreError {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	e := &RestoreError{Family: family, Stderr: stderr, Err: classify(err, stderr)}
	for _, line := range lines {
		if name, ok := strings.CutPrefix(line, "*"); ok {
			e.Table = rules.Table(name)
			break
		}
	}
	for _, pattern := range [...]*regexp.Regexp{lineFailed, lineNamed} {
		if m := pattern.FindStringSubmatch(stderr); m != nil {
			e.Line, _ = strconv.Atoi(m[1])
			break
		}
	}
	if e.Line < 1 || e.Line > len(lines) {
		e.Line = 0
		return e
	}
	e.Text = lines[e.Line-1]
	if _, rule, _ := cutChain(e.Text); rule == "" {
		e.culprit(lines, loaded)
	}
	if _, ok := cutCommand(e.Text, "-D ", "-X "); ok && !errors.Is(e.Err, ErrChanged) && !errors.Is(e.Err, ErrTooLong) {
		// Legacy says nothing but the line.
		e.Err = fmt.Errorf("%w (%w)", ErrChanged, e.Err)
	}
	return e
}

// culprit looks for the line at fault where the program named another: the
// commit, at which the kernel judges, or a line that declares.
func (e *RestoreError) culprit(lines []string, loaded func(xfrm.Family) words) {
	find := func(fits func(rule string) bool) bool {
		for i, line := range lines {
			if _, rule, ok := cutChain(line); ok && fits(rule) {
				e.Line, e.Text = i+1, line
				return true
			}
		}
		return false
	}
	if m := noChain.FindStringSubmatch(e.Stderr); m != nil {
		find(func(rule string) bool { return hasWords(rule, "-j", m[1]) || hasWords(rule, "-g", m[1]) })
		if featuresIn("-j "+m[1], e.Family) != 0 {
			// iptables-nft takes a target that it has no extension of for a chain.
			e.Err = fmt.Errorf("%w (%w)", ErrUnsupported, e.Err)
		}
		return
	}
	if m := noModule.FindStringSubmatch(e.Stderr); m != nil {
		option := "-m"
		if m[1] == "target" {
			option = "-j"
		}
		find(func(rule string) bool { return hasWords(rule, option, m[2]) })
		return
	}
	if e.Text != "COMMIT" {
		return
	}
	// A commit makes the kernel load the extensions of its rules, so one that is not
	// loaded after it could not be loaded.
	if have := loaded(e.Family); have != nil && find(have.lacks) {
		e.Guessed = true
		e.Err = fmt.Errorf("%w (%w)", ErrUnsupported, e.Err)
	}
}

// cutChain splits "[p:b] -A CHAIN RULE".
func cutChain(line string) (chain, rule string, ok bool) {
	rest, ok := cutCommand(line, "-A ", "-I ", "-D ", "-X ")
	if !ok {
		return "", "", false
	}
	chain, rule, _ = strings.Cut(rest, " ")
	if rule == "" {
		rule = " "
	}
	return chain, rule, true
}

func cutCommand(line string, commands ...string) (string, bool) {
	if strings.HasPrefix(line, "[") {
		_, line, _ = strings.Cut(line, " ")
	}
	for _, c := range commands {
		if rest, ok := strings.CutPrefix(line, c); ok {
			return rest, true
		}
	}
	return "", false
}

func hasWords(rule, option, value string) bool {
	return strings.Contains(" "+rule+" ", " "+option+" "+value+" ")
}

// words are the matches ("-m x") and targets ("-j X") that a kernel has.
type words map[string]bool

// lacks reports whether the rule uses a match or target that is not in the set.
func (w words) lacks(rule string) bool {
	option := ""
	for word := range strings.FieldsSeq(rule) {
		switch {
		case option == "-m", option == "-j" && !rules.Ours(word) && !builtinTarget(word):
			if !w[option+" "+word] {
				return true
			}
		}
		option = word
	}
	return false
}

func builtinTarget(target string) bool {
	return target == "ACCEPT" || target == "DROP" || target == "RETURN"
}

// loaded reads the names that x_tables has registered, nil if it lists none.
func loaded(family xfrm.Family) words {
	prefix := "/proc/net/ip_tables_"
	if family == xfrm.IPv6 {
		prefix = "/proc/net/ip6_tables_"
	}
	have := make(words)
	for _, kind := range [...]struct{ file, option string }{{"matches", "-m "}, {"targets", "-j "}} {
		list, err := os.ReadFile(prefix + kind.file)
		if err != nil || len(list) == 0 {
			return nil
		}
		for name := range strings.FieldsSeq(string(list)) {
			have[kind.option+name] = true
		}
	}
	return have
}
