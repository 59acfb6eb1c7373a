package config

import (
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"github.com/xfrmfw/xfrmfw/firewall"
)

// scalar returns the text of a plain or quoted string.
func (p *parser) scalar(node ast.Node, key string) (string, bool) {
	if p.noting.noteText() {
		return "", false
	}
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		p.fail(place(node), "%s must be text, not %s: put text that holds a colon or bracket in quotes", key, kind(node))
	case *ast.LiteralNode:
		p.fail(place(node), "%s must stand on its key's line: write it there, in quotes if need be", key)
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		p.fail(place(node), "%s is %s: write the value itself", key, kind(node))
	case *ast.NullNode:
		p.fail(place(node), "%s has no value: write one, or take it out", key)
	default:
		p.fail(place(node), "%s must be text, not %s: put it in quotes", key, kind(node))
	}
	return "", false
}

// choice returns one of the given words.
func (p *parser) choice(node ast.Node, key string, allowed ...string) string {
	if p.noting.noteWords(allowed...) {
		return allowed[0]
	}
	text, ok := p.scalar(node, key)
	if ok && !slices.Contains(allowed, text) {
		p.fail(place(node), "%s is %s: write %s", key, quote(text), strings.Join(allowed, " or "))
	}
	return text
}

func (p *parser) verified(node ast.Node) {
	p.config.MarkOnly = p.choice(node, "verified", "accept", "return") == "return"
}

func (p *parser) wan(node ast.Node) { p.config.WAN = p.interfaces(node, "wan") }

// interfaces reads a list of interface names.
func (p *parser) interfaces(node ast.Node, key string) []string {
	var names []string
	p.list(node, key, key+": [eth0]", func(n ast.Node) {
		name, ok := p.scalar(n, "an interface of "+key)
		if !ok {
			return
		}
		if problem := interfaceProblem(name); problem != "" {
			p.fail(place(n), "interface %s: %s", quote(name), problem)
			return
		}
		if slices.Contains(names, name) {
			p.fail(place(n), "interface %s is named twice: keep one", name)
			return
		}
		names = append(names, name)
	})
	return names
}

// interfaceProblem says why a name can't be an interface's. The kernel's rules
// are in dev_valid_name; a rule of ours has no quotes to protect others.
func interfaceProblem(name string) string {
	unfit := func(r rune) bool {
		return r == '/' || r == '"' || r == '\'' || r == '\\' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}
	switch {
	case name == "":
		return "the name is empty: write one, such as eth0"
	case len(name) > 15:
		return "longer than the 15 bytes of an interface name: write the name that \"ip link\" shows"
	case strings.HasSuffix(name, "+"):
		return "wildcards are not supported: name each interface"
	case name == ".", name == "..", strings.Contains(name, ":"), strings.ContainsFunc(name, unfit):
		return "not an interface name: write the name that \"ip link\" shows"
	case name == "lo":
		return "the loopback interface leads to no peer: name the outer interface"
	case name[0] == '-', name[0] == '!':
		return "iptables would take it for an option: rename the interface"
	}
	return ""
}

func (p *parser) marks(node ast.Node) {
	if text, ok := node.(*ast.StringNode); ok && (text.Value == "auto" || p.noting.noteWords("auto")) {
		p.config.AutoMarks = true
		return
	}
	const instead = "write auto, or {tag: 0x10000000, verified: 0x20000000}"
	if _, ok := node.(*ast.MappingNode); !ok {
		p.fail(place(node), "marks must be auto or a mapping, not %s: %s", kindOrText(node), instead)
		return
	}
	var m firewall.Marks
	before := len(p.errs) + p.more
	p.walk(node, "marks", words{
		"tag":      func(n ast.Node) { m.Tag = p.bit(n, "tag") },
		"verified": func(n ast.Node) { m.Verified = p.bit(n, "verified") },
	})
	switch {
	case len(p.errs)+p.more > before:
	case m.Tag == 0 || m.Verified == 0:
		p.fail(place(node), "marks needs both bits: %s", instead)
	case m.Tag == m.Verified:
		p.fail(place(node), "tag and verified are the same bit %#x: use two different ones", m.Tag)
	default:
		p.config.Marks = m
	}
}

// bit reads a mark of exactly one bit.
func (p *parser) bit(node ast.Node, key string) uint32 {
	n, ok := p.number(node, key, "0x10000000")
	if ok && bits.OnesCount32(n) != 1 {
		p.fail(place(node), "%s is %#x, which has %d bits set: use exactly one, such as 0x10000000", key, n, bits.OnesCount32(n))
	}
	return n
}

// number reads a decimal or hexadecimal number of 32 bits. Other forms of YAML,
// such as octal and binary ones, would only be misread by the next person.
func (p *parser) number(node ast.Node, key, instead string) (uint32, bool) {
	if p.noting.noteNumber() {
		return 0, false
	}
	i, ok := node.(*ast.IntegerNode)
	if !ok {
		p.fail(place(node), "%s must be a whole number, not %s: write it without quotes, such as %s", key, kind(node), instead)
		return 0, false
	}
	text := i.Token.Value
	digits, base := text, 10
	if rest, ok := strings.CutPrefix(text, "0x"); ok {
		digits, base = rest, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || base == 10 && len(text) > 1 && text[0] == '0' {
		p.fail(place(node), "%s is %s: write a decimal or 0x number of at most 32 bits, such as %s", key, quote(text), instead)
		return 0, false
	}
	return uint32(n), true
}

func (p *parser) reqid(node ast.Node) uint32 {
	n, ok := p.number(node, "reqid", "16385")
	if ok && n == 0 {
		p.fail(place(node), "reqid 0 is that of every tunnel without one: match by peer or remote instead")
	}
	return n
}

// prefix reads an address or a prefix without host bits.
func (p *parser) prefix(node ast.Node, key string) netip.Prefix {
	text, ok := p.scalar(node, key)
	if !ok {
		return netip.Prefix{}
	}
	fail := func(format string, args ...any) netip.Prefix {
		p.fail(place(node), "%s "+format, append([]any{key}, args...)...)
		return netip.Prefix{}
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return fail("is %s: write an address or prefix, such as 10.1.0.0/24 or 2001:db8::/32", quote(text))
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return fail("is the IPv4-mapped %s: write the IPv4 address or prefix", text)
	}
	if masked := prefix.Masked(); masked != prefix {
		return fail("is %s, which has bits behind the prefix: write %s, or %s for the one host", text, masked, prefix.Addr())
	}
	return prefix
}

// quote shows text of the file within an error.
func quote(s string) string {
	const most = 60
	runes := []rune(s)
	if len(runes) > most {
		return strconv.Quote(string(runes[:most])) + "..."
	}
	return strconv.Quote(s)
}

func kindOrText(node ast.Node) string {
	if s, ok := node.(*ast.StringNode); ok {
		return quote(s.Value)
	}
	return kind(node)
}
