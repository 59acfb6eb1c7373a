package config

import (
	"regexp"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml/ast"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
)

// guard reads the section guard.
func (p *parser) guard(node ast.Node) {
	g := &p.config.Guard
	p.walk(node, "guard", words{
		"remember":   func(n ast.Node) { g.Remember, g.Forget = p.remember(n) },
		"pairs":      func(n ast.Node) { g.Pairs = p.pairs(n) },
		"asymmetric": func(n ast.Node) { g.Asymmetric = p.interfaces(n, "asymmetric") },
	})
}

// remember reads off, or a number of days or hours.
func (p *parser) remember(node ast.Node) (seconds int64, off bool) {
	const instead = "write off, or days or hours such as 30d or 12h"
	text, ok := p.scalar(node, "remember")
	if !ok || text == "off" {
		return 0, ok
	}
	m := regexp.MustCompile(`^([1-9][0-9]{0,4})([dh])$`).FindStringSubmatch(text)
	if m == nil {
		p.fail(place(node), "remember is %s: %s", quote(text), instead)
		return 0, false
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // at most five digits
	if m[2] == "d" {
		n *= 24
	}
	return n * 3600, false
}

// pairs reads the pairs that are always guarded.
func (p *parser) pairs(node ast.Node) []guard.Guard {
	var pairs []guard.Guard
	p.list(node, "pairs", "pairs: [{local: 10.2.0.0/24, remote: 10.1.0.0/24}]", func(n ast.Node) {
		g := guard.Guard{Source: guard.FromConfig}
		before := len(p.errs) + p.more
		if !p.walk(n, "a pair", words{
			"local":  func(n ast.Node) { g.Local = p.prefix(n, "local") },
			"remote": func(n ast.Node) { g.Remote = p.prefix(n, "remote") },
		}) || len(p.errs)+p.more > before {
			return
		}
		switch {
		case !g.Local.IsValid() || !g.Remote.IsValid():
			p.fail(place(n), "a pair needs both ends: write {local: 10.2.0.0/24, remote: 10.1.0.0/24}")
		case g.Local.Addr().Is4() != g.Remote.Addr().Is4():
			p.fail(place(n), "local %s and remote %s are of two families: write a pair for each", g.Local, g.Remote)
		case slices.Contains(pairs, g):
			p.fail(place(n), "the pair of %s and %s stands twice: keep one", g.Local, g.Remote)
		default:
			pairs = append(pairs, g)
		}
	})
	return pairs
}

// Logging is bounded, so that an attacker can't fill a disk.
const (
	defaultRate = 5
	maxRate     = 1000
)

// log reads where drops are written to.
func (p *parser) log(node ast.Node) {
	l := &p.config.Log
	if _, ok := node.(*ast.MappingNode); !ok {
		*l = firewall.LogConfig{}
		if p.choice(node, "log", "kernel", "off") == "kernel" {
			*l = firewall.LogConfig{Kernel: true, PerSecond: defaultRate}
		}
		return
	}
	*l = firewall.LogConfig{Kernel: true, PerSecond: defaultRate}
	p.walk(node, "log", words{
		"group": func(n ast.Node) {
			group, ok := p.number(n, "group", "5")
			if ok && group > 0xffff {
				p.fail(place(n), "group is %d: NFLOG has 0 to 65535", group)
			}
			l.Kernel, l.Group = false, uint16(group)
		},
		"rate": func(n ast.Node) { l.PerSecond = p.rate(n) },
	})
}

// rate reads a number of messages a second.
func (p *parser) rate(node ast.Node) uint16 {
	text, ok := p.scalar(node, "rate")
	m := regexp.MustCompile(`^([1-9][0-9]{0,3})/s$`).FindStringSubmatch(text)
	if ok && m == nil {
		p.fail(place(node), "rate is %s: write messages a second, such as 5/s", quote(text))
	}
	if !ok || m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // at most four digits
	if n > maxRate {
		p.fail(place(node), "rate is %d/s: write at most %d/s", n, maxRate)
		return 0
	}
	return uint16(n)
}
