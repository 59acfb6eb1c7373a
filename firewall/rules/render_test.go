package rules_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

func TestRuleText(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range fake.Samples() {
		t.Run(s.Name, func(t *testing.T) {
			if got := s.Rule.Text(s.Family); got != s.Text {
				t.Errorf("got  %s\nwant %s", got, s.Text)
			}
			if err := rules.Validate(s.Ruleset()); err != nil {
				t.Error(err)
			}
		})
		notZero(seen, "", reflect.ValueOf(s.Rule))
		seen[fmt.Sprint("verb ", s.Rule.Target.Verb)] = true
	}
	// The table has to keep up with the type.
	for _, field := range fields("", reflect.TypeFor[rules.Rule]()) {
		if !seen[field] && field != ".Case" { // no part of the text
			t.Errorf("no sample sets %s", field)
		}
	}
	for v := rules.Count; v <= rules.NFLog; v++ {
		if !seen[fmt.Sprint("verb ", v)] {
			t.Errorf("no sample has verb %d", v)
		}
	}
}

// TestID: each field of a rule makes for another ID, and so does where it stands.
func TestID(t *testing.T) {
	seen := make(map[string]string)
	for _, s := range fake.Samples() {
		if s.Name == "src any" {
			continue // is the same rule as "nothing"
		}
		id := rules.ID(s.Family, s.Table, "XFRMFW-X", s.Rule)
		if other, ok := seen[id]; ok || len(id) != 12 {
			t.Errorf("%s and %s share the ID %q", s.Name, other, id)
		}
		seen[id] = s.Name
		r := s.Rule
		r.Case = firewall.Case8d
		if rules.ID(s.Family, s.Table, "XFRMFW-X", r) != id || r.Text(s.Family) != s.Text {
			t.Errorf("%s: the case is part of the ID or the text", s.Name)
		}
		r.Tunnel += "2"
		for _, other := range []string{
			rules.ID(s.Family, rules.NAT, "XFRMFW-X", s.Rule),
			rules.ID(s.Family, s.Table, "XFRMFW-Y", s.Rule),
			rules.ID(s.Family, s.Table, "XFRMFW-X", r),
		} {
			if other == id && s.Table != rules.NAT {
				t.Errorf("%s: another place, the same ID", s.Name)
			}
		}
		line := string(rules.AppendLine(nil, s.Family, s.Table, "XFRMFW-X", s.Rule))
		_, comment, _ := strings.Cut(line, "--comment ")
		got, purpose, tunnel, ok := rules.ParseComment(comment)
		if !ok || got != id || purpose != s.Rule.Purpose || tunnel != s.Rule.Tunnel {
			t.Errorf("%s: comment %q is read as %q %q %q", s.Name, comment, got, purpose, tunnel)
		}
	}
}

func notZero(seen map[string]bool, path string, v reflect.Value) {
	for i := range v.NumField() {
		name, f := path+"."+v.Type().Field(i).Name, v.Field(i)
		if f.IsZero() {
			continue
		}
		seen[name] = true
		if ours(f.Type()) {
			notZero(seen, name, f)
		}
	}
}

func fields(path string, t reflect.Type) []string {
	var list []string
	for i := range t.NumField() {
		name, f := path+"."+t.Field(i).Name, t.Field(i).Type
		list = append(list, name)
		if ours(f) {
			list = append(list, fields(name, f)...)
		}
	}
	return list
}

func ours(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[rules.Rule]().PkgPath()
}
