package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/firewall"
)

// The words of the rules stand in the three maps of this file. A word
// with the value nil is one of a later version: it is known, so that it is not
// taken for a slip, and refused.

// topWords are the words of the file.
func (p *parser) topWords() words {
	return words{
		"wan":       p.wan,
		"behind":    func(n ast.Node) { p.config.Behind = p.prefixes(n, "behind") },
		"ike_ports": p.ikePorts,
		"verified":  p.verified,
		"marks":     p.marks,
		"tunnels":   p.tunnels,
		"guard":     p.guard,
		"log":       p.log,
		"lockdown":  p.lockdown,
		"daemon":    p.daemon,
		"tests":     p.tests,
		"engine":    func(n ast.Node) { p.engine = engine.Name(p.choice(n, "engine", engine.Names()...)) },
		"accept": func(n ast.Node) {
			p.accept = engine.Accept(p.choice(n, "accept", string(engine.AcceptAuto), string(engine.AcceptIPTables), string(engine.AcceptNone)))
		},

		"cross_check": func(n ast.Node) {
			p.config.Enforce = p.choice(n, "cross_check", "observe", "enforce") == "enforce"
		},
	}
}

// tunnelWords are the words of one entry of tunnels.
func (p *parser) tunnelWords(t *firewall.TunnelConfig) words {
	return words{
		"match":  func(n ast.Node) { p.match(n, &t.Match) },
		"name":   func(n ast.Node) { t.Name = p.name(n, "name") },
		"site":   func(n ast.Node) { t.Site = p.name(n, "site") },
		"remote": func(n ast.Node) { t.Remote = p.caps(n) },
		"nat":    func(n ast.Node) { t.KeepNAT = p.choice(n, "nat", "exempt", "keep") == "keep" },
		"in":     func(n ast.Node) { t.In = p.services(n, "in") },
		"out":    func(n ast.Node) { t.Out = p.services(n, "out") },
		"mss":    func(n ast.Node) { t.MSS = p.mss(n) },
	}
}

// matchWords are the words of an entry's match.
func (p *parser) matchWords(m *firewall.Match) words {
	return words{
		"reqid":      func(n ast.Node) { m.Reqid = p.reqid(n) },
		"peer":       func(n ast.Node) { m.Peer = p.prefix(n, "peer") },
		"remote":     func(n ast.Node) { m.Remote = p.prefix(n, "remote") },
		"connection": func(n ast.Node) { m.Connection = p.told(n, "connection") },
		"identity":   func(n ast.Node) { m.Identity = p.told(n, "identity") },
	}
}

// String lists the words of this version, in order.
func (w words) String() string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if w[name] != nil {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// suggest names the word that was probably meant, or all.
func (w words) suggest(key string) string {
	best, least := "", min(3, (len(key)+2)/2)
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if d := distance(strings.ToLower(key), name); w[name] != nil && d < least {
			best, least = name, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "use one of " + w.String()
}

// distance is the number of letters to add, drop or change.
func distance(a, b string) int {
	if len(a) > 32 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
