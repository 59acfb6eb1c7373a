package config

import (
	"encoding/json"

	"github.com/goccy/go-yaml/ast"
)

// Schema returns the JSON schema of a configuration file, for editors: its keys, and the
// kinds and the words of their values. The parser decides more, such as whether a text is
// a prefix, and whether two entries agree.
//
// The parser itself describes it: its readers are called with nodes of each kind, and
// note the input that they would take.
func Schema() ([]byte, error) {
	var p parser
	s := p.describe(func(n ast.Node) { p.walk(n, "", p.topWords()) }).schema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "configuration of xfrmfw"
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}
