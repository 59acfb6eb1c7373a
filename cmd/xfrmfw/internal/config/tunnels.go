package config

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/xfrmfw/xfrmfw/firewall"
)

func (p *parser) tunnels(node ast.Node) {
	var entries matches
	p.list(node, "tunnels", "a list of entries, each \"- match: ...\"", func(n ast.Node) {
		var t firewall.TunnelConfig
		before := len(p.errs) + p.more
		if !p.walk(n, "an entry of tunnels", p.tunnelWords(&t)) || len(p.errs)+p.more > before {
			return
		}
		at := place(n)
		if t.Match == (firewall.Match{}) {
			p.fail(at, "the entry has no match: say which tunnels it is for, such as match: {peer: 203.0.113.7}")
			return
		}
		if i, ok := entries.covering(t.Match); ok {
			p.fail(at, "no tunnel gets here: the entry on line %d matches all that this one does: %s",
				entries.places[i].Position.Line, remedy(entries.list[i] == t.Match))
			return
		}
		entries.add(t.Match, at)
		p.config.Tunnels = append(p.config.Tunnels, t)
	})
}

func remedy(same bool) string {
	if same {
		return "join the two"
	}
	return "put the narrower one first"
}

func (p *parser) match(node ast.Node, m *firewall.Match) {
	if p.walk(node, "match", p.matchWords(m)) && len(node.(*ast.MappingNode).Values) == 0 {
		p.fail(place(node), "match is empty and would fit every tunnel: use one of %s", p.matchWords(m))
	}
}

// maxName bounds a tunnel's name, so that tables stay readable.
const maxName = 32

// name reads a tunnel's name or its site's. Metrics and log prefixes carry names as they
// are.
func (p *parser) name(node ast.Node, key string) string {
	text, ok := p.scalar(node, key)
	if !ok {
		return ""
	}
	unfit := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_.-", r))
	}
	if text == "" || len(text) > maxName || strings.ContainsFunc(text, unfit) {
		p.fail(place(node), "%s %s: write 1 to %d of the characters A-Z a-z 0-9 _ . -", key, quote(text), maxName)
	}
	return text
}

// maxTold bounds the texts of the IKE daemon's hook: longer text is cut there,
// and would never match.
const maxTold = 250

// told reads a text that is compared with the hook's, to the letter.
func (p *parser) told(node ast.Node, key string) string {
	text, ok := p.scalar(node, key)
	if !ok {
		return ""
	}
	unfit := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if text == "" || len(text) > maxTold || strings.ContainsFunc(text, unfit) {
		p.fail(place(node), "%s %s: write 1 to %d bytes of visible characters, as xfrmfw status shows them", key, quote(text), maxTold)
	}
	return text
}

// caps reads the prefixes that a peer may claim.
func (p *parser) caps(node ast.Node) []netip.Prefix { return p.prefixes(node, "remote") }

// prefixes reads a list of prefixes that don't overlap.
func (p *parser) prefixes(node ast.Node, key string) []netip.Prefix {
	var list []netip.Prefix
	p.list(node, key, key+": [10.1.0.0/24]", func(n ast.Node) {
		prefix := p.prefix(n, key)
		if !prefix.IsValid() {
			return
		}
		for _, other := range list {
			if other.Overlaps(prefix) {
				p.fail(place(n), "%s %s overlaps %s of the same list: keep the wider one", key, prefix, other)
				return
			}
		}
		list = append(list, prefix)
	})
	return list
}

// matches are the matches so far, indexed so that ten thousand entries don't
// have to be compared each with each.
type matches struct {
	list   []firewall.Match
	places []*token.Token
	index  map[firewall.Match]int
	shapes map[shape]bool
}

// shape says which fields of a match are set.
type shape struct {
	connection, identity, reqid bool
	// peer and remote are lengths of prefixes, -1 where the field is not set.
	peer, remote int
}

func shapeOf(m firewall.Match) shape {
	return shape{m.Connection != "", m.Identity != "", m.Reqid != 0, m.Peer.Bits(), m.Remote.Bits()}
}

func (m *matches) add(match firewall.Match, at *token.Token) {
	if m.index == nil {
		m.index, m.shapes = make(map[firewall.Match]int), make(map[shape]bool)
	}
	m.index[match] = len(m.list)
	m.shapes[shapeOf(match)] = true
	m.list = append(m.list, match)
	m.places = append(m.places, at)
}

// covering returns the first of the earlier entries that fit all that match
// fits, so that match would never hold. An entry covers another if each field
// it sets is set there too, to the same or, for prefixes, to something within.
func (m *matches) covering(match firewall.Match) (int, bool) {
	first := len(m.list)
	for s := range m.shapes {
		if i, ok := m.index[s.widen(match)]; ok {
			first = min(first, i)
		}
	}
	return first, first < len(m.list)
}

// widen reduces a match to the shape. If the shape sets a field that the match
// does not, the result has another shape, so that it is not found.
func (s shape) widen(m firewall.Match) firewall.Match {
	if !s.connection {
		m.Connection = ""
	}
	if !s.identity {
		m.Identity = ""
	}
	if !s.reqid {
		m.Reqid = 0
	}
	m.Peer, m.Remote = widen(m.Peer, s.peer), widen(m.Remote, s.remote)
	return m
}

// widen returns the prefix of that length around p, or no prefix.
func widen(p netip.Prefix, bits int) netip.Prefix {
	if bits > p.Bits() {
		return netip.Prefix{}
	}
	wider, _ := p.Addr().Prefix(bits) // fails for -1, with no prefix
	return wider
}
