package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/test/manual"
)

// TestManualWords is that xfrmfw.yaml(5) has each word of the schema and no other one, each with its default and with an
// example. Words of a mapping or of a list are in the section of their list: "- `src`, `dst`: …" or "`{local: PREFIX}`".
func TestManualWords(t *testing.T) {
	schema := schemaOf(t)
	want := map[string]bool{}
	schemaWords(schema, "", want)
	for _, heading := range []string{"daemon", "guard", "tunnels"} { // their words have sections of their own
		delete(want, heading)
	}

	page := manual.Page(t, "xfrmfw.yaml.5")
	examples := strings.Join(regexp.MustCompile("(?s)```yaml\n.*?```").FindAllString(page, -1), "\n")
	got := map[string]bool{}
	for _, section := range strings.Split(page, "\n### ")[1:] {
		section, _, _ = strings.Cut(section, "\n## ")
		heading, body, _ := strings.Cut(section, "\n")
		prose, _, _ := strings.Cut(body, "```")
		for word := range strings.SplitSeq(strings.ReplaceAll(heading, "[]", ""), ", ") {
			got[word] = true
			if word != "tunnels.match" && !strings.Contains(prose, "Default") {
				t.Errorf("%s has no default", word)
			}
			for _, item := range regexp.MustCompile("(?m)^- (`[^:]*):|^- (`[a-z]+`), |`\\{([^`]*)\\}`").FindAllStringSubmatch(prose, -1) {
				for _, key := range regexp.MustCompile("`([a-z_]+)`|([a-z_]+):").FindAllStringSubmatch(item[1]+item[2]+item[3], -1) {
					got[word+"."+key[1]+key[2]] = true
				}
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("the words of the schema and of the page differ (-schema +page):\n%s", diff)
	}
	for word := range want {
		last := word[strings.LastIndex(word, ".")+1:]
		if !regexp.MustCompile(`\b` + last + `:`).MatchString(examples) {
			t.Errorf("%s has no example", word)
		}
	}
}

// schemaWords collects the keys of a schema, with a dot between a mapping's key and those in it.
func schemaWords(schema map[string]any, prefix string, into map[string]bool) {
	kinds, ok := schema["anyOf"].([]any)
	if !ok {
		kinds = []any{schema}
	}
	for _, kind := range kinds {
		kind, _ := kind.(map[string]any)
		properties, _ := kind["properties"].(map[string]any)
		for key, value := range properties {
			into[prefix+key] = true
			value, _ := value.(map[string]any)
			schemaWords(value, prefix+key+".", into)
		}
		if items, ok := kind["items"].(map[string]any); ok {
			schemaWords(items, prefix, into)
		}
	}
}
