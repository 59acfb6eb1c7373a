package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	yamlparser "github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/expect"
)

// maxErrors bounds how many mistakes are told at once.
const maxErrors = 10

// parser walks the syntax tree, not a decoded value, since every mistake has
// to be told with its place.
type parser struct {
	file   string
	config firewall.Config
	// service is the file's section on the daemon.
	service Daemon
	// testList is the tests in the file.
	testList []expect.Test
	engine   engine.Name
	accept   engine.Accept
	errs     []error
	// more counts the mistakes beyond maxErrors.
	more int
	// later are checks that need the whole file.
	later []func()
	// noting is the description that readers add to in place of reading a file; nil where
	// one is read. Readers then return any value.
	noting *described
}

// fail notes a mistake at a token.
func (p *parser) fail(t *token.Token, format string, args ...any) {
	e := &Error{File: p.file, Text: fmt.Sprintf(format, args...)}
	if t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	if len(p.errs) >= maxErrors {
		p.more++
		return
	}
	p.errs = append(p.errs, e)
}

func (p *parser) err() error {
	if p.more > 0 {
		p.errs = append(p.errs, &Error{File: p.file, Text: fmt.Sprintf("%d more mistakes", p.more)})
		p.more = 0
	}
	return errors.Join(p.errs...)
}

// document reads the one document of a file. No document, or an empty one, is
// the default configuration.
func (p *parser) document(data []byte) {
	if !p.text(data) {
		return
	}
	// Duplicate keys are found by the walk, which words them better.
	file, err := yamlparser.ParseBytes(data, 0, yamlparser.AllowDuplicateMapKey())
	if err != nil {
		p.syntax(err)
		return
	}
	for i, doc := range file.Docs {
		if i > 0 {
			p.fail(doc.Start, "a second document: write everything into one, without \"---\"")
			return
		}
		if _, ok := doc.Body.(*ast.DirectiveNode); ok {
			p.fail(doc.Body.GetToken(), "directives are not supported: take this line out")
			return
		}
		if doc.Body != nil {
			p.walk(doc.Body, "the configuration", p.topWords())
			for _, check := range p.later {
				check()
			}
		}
	}
}

// text refuses bytes that no YAML file holds, and depths that could exhaust the stack of a
// recursive parser.
func (p *parser) text(data []byte) bool {
	line, depth, start := 1, 0, 0
	for i, c := range data {
		switch {
		case c == '\n':
			line, start = line+1, i+1
		case i-start >= maxLine:
			p.at(data, i, line, "the line is longer than %d bytes: break it", maxLine)
			return false
		case c == '[' || c == '{':
			depth++
		case (c == ']' || c == '}') && depth > 0:
			depth--
		case c < ' ' && c != '\t' && c != '\r', c == 0x7f:
			p.at(data, i, line, "control character %#02x: take it out", c)
			return false
		}
		if depth > maxDepth {
			p.at(data, i, line, "more than %d brackets are open: close them", maxDepth)
			return false
		}
	}
	if !utf8.Valid(data) {
		i := 0
		for rest := data; ; {
			r, size := utf8.DecodeRune(rest)
			if r == utf8.RuneError && size == 1 {
				break
			}
			i, rest = i+size, rest[size:]
		}
		p.at(data, i, 1+bytes.Count(data[:i], []byte("\n")), "not UTF-8: save the file in that encoding")
		return false
	}
	return true
}

// maxDepth is far more than the configuration's own words need; brackets in
// comments and quotes count too.
const maxDepth = 100

// maxLine bounds nested lists that need no brackets ("- - -").
const maxLine = 16 << 10

func (p *parser) at(data []byte, offset, line int, format string, args ...any) {
	start := bytes.LastIndexByte(data[:offset], '\n') + 1
	column := 1 + utf8.RuneCount(data[start:offset])
	p.fail(&token.Token{Position: &token.Position{Line: line, Column: column}}, format, args...)
}

func (p *parser) syntax(err error) {
	var e yaml.Error
	if !errors.As(err, &e) {
		p.fail(nil, "%s", err)
		return
	}
	text := e.GetMessage()
	hint := ""
	if t := e.GetToken(); t != nil && strings.HasSuffix(strings.TrimSpace(t.Value), ":") {
		hint = ": put text that ends in a colon, such as fd00::, in quotes"
	}
	p.fail(e.GetToken(), "not YAML: %s%s", text, hint)
}

// describe calls a reader with a node of each kind that readers tell apart, in place of a
// node of a file. It returns the description of the reader's input.
func (p *parser) describe(read func(ast.Node)) *described {
	above := p.noting
	d := new(described)
	p.noting = d
	for _, probe := range []ast.Node{&ast.MappingNode{}, &ast.SequenceNode{}, &ast.StringNode{}, &ast.IntegerNode{}} {
		read(probe)
	}
	p.noting = above
	return d
}

// words maps each key of a mapping to the reader of its value.
type words map[string]func(ast.Node)

// walk reads a mapping by its words. It reports whether node is one.
func (p *parser) walk(node ast.Node, what string, known words) bool {
	if p.noting.noteKeys(known, p.describe) {
		return false
	}
	m, ok := node.(*ast.MappingNode)
	if !ok {
		p.fail(place(node), "%s must be a mapping (key: value), not %s", what, kind(node))
		return false
	}
	seen := make(map[string]*token.Token, len(m.Values))
	for _, v := range m.Values {
		t := v.Key.GetToken()
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			p.fail(t, "a key must be a plain word: one of %s", known)
			continue
		}
		if first, ok := seen[key.Value]; ok {
			p.fail(t, "%s is given twice, first on line %d: keep one", key.Value, first.Position.Line)
			continue
		}
		seen[key.Value] = t
		read, ok := known[key.Value]
		switch {
		case !ok:
			p.fail(t, "unknown key %s: %s", quote(key.Value), known.suggest(key.Value))
		case v.Value == nil || v.Value.Type() == ast.NullType:
			p.fail(t, "%s has no value: give it one, or take the line out", key.Value)
		case read == nil:
			p.fail(t, "%s is not supported by this version: take it out", key.Value)
		default:
			read(v.Value)
		}
	}
	return true
}

// list calls read for every element of a list, which must not be empty.
func (p *parser) list(node ast.Node, key, instead string, read func(ast.Node)) {
	if p.noting.noteItems(read, p.describe) {
		return
	}
	s, ok := node.(*ast.SequenceNode)
	if !ok {
		p.fail(place(node), "%s must be a list, not %s: write %s", key, kind(node), instead)
		return
	}
	if len(s.Values) == 0 {
		p.fail(place(node), "%s is an empty list: name something, or leave %s out", key, key)
	}
	for _, v := range s.Values {
		read(v)
	}
}

// place is where a node begins. The token of a block mapping is its first colon.
func place(node ast.Node) *token.Token {
	switch n := node.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return node.GetToken()
}

// kind names the kind of a node, for errors.
func kind(node ast.Node) string {
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode:
		return "a number"
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number with a fraction"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode:
		return "an anchor or alias, which are not supported"
	case *ast.TagNode:
		return "a YAML tag, which are not supported"
	}
	return "something else"
}
