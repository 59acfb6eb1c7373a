package compile

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/test/manual"
)

// The picture of a packet's way in xfrmfw(7) has the cases of each hook of mangle that
// clear, set or drop something there.
func TestThePictureHasTheCases(t *testing.T) {
	found := make(map[string]map[string]bool)
	for seed := range uint64(60) {
		_, in := fake.Variety(seed)
		for _, rs := range Compile(in).Rulesets {
			chains := make(map[rules.ChainKey]rules.Chain)
			for _, c := range rs.Chains {
				chains[rules.ChainKey{Table: c.Table, Name: c.Name}] = c
			}
			for _, h := range rs.Hooks {
				if h.Table != rules.Mangle {
					continue
				}
				if found[h.From] == nil {
					found[h.From] = make(map[string]bool)
				}
				casesOf(chains, rules.ChainKey{Table: h.Table, Name: h.To}, found[h.From], make(map[rules.ChainKey]bool))
			}
		}
	}
	got := make(map[string][]string)
	for hook, cases := range found {
		got[hook] = slices.Sorted(maps.Keys(cases))
	}

	_, picture, _ := strings.Cut(manual.Page(t, "xfrmfw.7"), "### The way of a packet\n")
	picture, _, _ = strings.Cut(picture, "### Exceptions")
	picture = strings.Replace(picture, "1 to 4", "1 1b 1c 2 3 4", 1)
	between := func(from, to string, column bool) []string {
		_, part, _ := strings.Cut(picture, from)
		part, _, _ = strings.Cut(part, to)
		cases := make(map[string]bool)
		for i, line := range strings.Split(part, "\n") {
			if column && i > 0 { // the left of two columns, or the right one
				if at := min(32, len(line)); from == "mangle FORWARD" {
					line = line[at:]
				} else {
					line = line[:at]
				}
			}
			for _, number := range regexp.MustCompile(`\b[1-8][a-e]?\b`).FindAllString(line, -1) {
				cases[number] = true
			}
		}
		return slices.Sorted(maps.Keys(cases))
	}
	want := map[string][]string{
		"PREROUTING":  between("mangle PREROUTING", "nat PREROUTING", false),
		"INPUT":       between("mangle INPUT", "filter INPUT", true),
		"FORWARD":     between("mangle FORWARD", "filter INPUT", true),
		"POSTROUTING": between("mangle POSTROUTING", "nat POSTROUTING", false),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// casesOf adds the cases of the rules that a packet may meet from a chain on.
func casesOf(chains map[rules.ChainKey]rules.Chain, at rules.ChainKey, cases map[string]bool, seen map[rules.ChainKey]bool) {
	if seen[at] {
		return
	}
	seen[at] = true
	for _, r := range chains[at].Rules.All() {
		if r.Case != firewall.NoCase {
			cases[r.Case.String()] = true
		}
		if r.Target.Chain != "" {
			casesOf(chains, rules.ChainKey{Table: at.Table, Name: r.Target.Chain}, cases, seen)
		}
	}
}
