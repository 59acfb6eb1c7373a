package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/test/manual"
)

// schemaOf is the schema as it is printed.
func schemaOf(t *testing.T) (schema map[string]any) {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

// The schema takes the shipped example and all configurations of the documents, and none
// of those that it can tell to be wrong. Its keys are the parser's.
func TestSchema(t *testing.T) {
	schema := schemaOf(t)
	example, err := os.ReadFile("../../../../scripts/dist/xfrmfw.yaml")
	if err != nil {
		t.Fatal(err)
	}
	right := []string{
		string(regexp.MustCompile(`(?m)^#([^#\n])`).ReplaceAll(example, []byte("$1"))),
		"marks: auto", "marks: {tag: 0x1, verified: 2}", "log: off", "log: {group: 5, rate: 5/s}", "tunnels: [{match: {reqid: 5}, mss: 1360}, {match: {peer: 192.0.2.1}, mss: auto}]",
	}
	for _, found := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(manual.Text(t), -1) {
		right = append(right, found[1])
	}
	for _, found := range regexp.MustCompile("(?s)cat >/etc/xfrmfw/xfrmfw.yaml <<'EOF'\n(.*?)\n    EOF\n").FindAllStringSubmatch(manual.Text(t), -1) {
		right = append(right, found[1])
	}
	for _, text := range right {
		if _, err := Parse([]byte(text), "x.yaml"); err != nil {
			t.Errorf("the parser refuses %s: %v", text, err)
		}
		if why := refused(schema, decoded(t, text)); why != "" {
			t.Errorf("%s\nin\n%s", why, text)
		}
	}
	for _, text := range []string{
		"wann: [eth0]", "wan: eth0", "wan: []", "wan: [1]", "marks: manual", "marks: {tag: x}", "marks: {tags: 1}", "log: loud", "log: {group: five}",
		"cross_check: maybe", "verified: 1", "guard: {remember: 30}", "guard: {pairs: [{local: 10.1.0.0/24, remote: 10.2.0.0/24, mss: 5}]}", "guard: []",
		"lockdown: true", "tunnels: {match: {reqid: 1}}", "tunnels: [{match: {reqid: one}}]", "tunnels: [{mss: off-ish}]", "daemon: {audit: 5}", "daemon: {metrics_tunnels: -1}", "engine: ebpf",
	} {
		if _, err := Parse([]byte(text), "x.yaml"); err == nil {
			t.Errorf("the parser takes %s", text)
		}
		if refused(schema, decoded(t, text)) == "" {
			t.Errorf("the schema takes %s", text)
		}
	}

	p := parser{}
	tunnel := schema["properties"].(map[string]any)["tunnels"].(map[string]any)["items"].(map[string]any)["properties"].(map[string]any)
	for _, of := range []struct {
		words words
		keys  map[string]any
	}{
		{p.topWords(), schema["properties"].(map[string]any)},
		{p.tunnelWords(&firewall.TunnelConfig{}), tunnel},
		{p.matchWords(&firewall.Match{}), tunnel["match"].(map[string]any)["properties"].(map[string]any)},
	} {
		if diff := cmp.Diff(slices.Sorted(maps.Keys(of.words)), slices.Sorted(maps.Keys(of.keys))); diff != "" {
			t.Error(diff)
		}
	}
}

func decoded(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v = nil
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// refused says why a value does not fit a schema, as far as schemas here go.
func refused(schema map[string]any, v any) string {
	if kinds, ok := schema["anyOf"].([]any); ok {
		why := ""
		for _, s := range kinds {
			if why = refused(s.(map[string]any), v); why == "" {
				return ""
			}
		}
		return fmt.Sprintf("%v fits none: %s", v, why)
	}
	if words, ok := schema["enum"].([]any); ok {
		if !slices.Contains(words, v) {
			return fmt.Sprintf("%v is none of %v", v, words)
		}
		return ""
	}
	switch v := v.(type) {
	case map[string]any:
		properties, ok := schema["properties"].(map[string]any)
		if !ok {
			return fmt.Sprintf("%v is a mapping", v)
		}
		for key, value := range v {
			s, ok := properties[key].(map[string]any)
			if !ok {
				return "unknown key " + key
			}
			if why := refused(s, value); why != "" {
				return key + ": " + why
			}
		}
	case []any:
		items, ok := schema["items"].(map[string]any)
		if !ok || len(v) == 0 {
			return fmt.Sprintf("%v is a list", v)
		}
		for _, value := range v {
			if why := refused(items, value); why != "" {
				return why
			}
		}
	case string:
		if schema["type"] != "string" {
			return v + " is text"
		}
	case float64:
		if schema["type"] != "integer" || v < schema["minimum"].(float64) {
			return fmt.Sprintf("%v is a number", v)
		}
	case bool:
		if schema["type"] != "boolean" {
			return fmt.Sprintf("%v is true or false", v)
		}
	default:
		if v != nil {
			return fmt.Sprintf("%v is of no kind here", v)
		}
	}
	return ""
}
