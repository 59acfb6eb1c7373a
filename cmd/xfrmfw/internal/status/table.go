package status

import (
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
)

// The widest that a column of the table is made, as long as there are rows that
// need it.
const (
	maxNameColumn = 20
	maxPeerColumn = 21
)

// table writes one line per tunnel.
func (p *page) table() {
	if len(p.Tunnels) == 0 {
		return
	}
	name, peer := len("TUNNEL"), len("PEER")
	for _, t := range p.Tunnels {
		name = max(name, min(maxNameColumn, text.Columns(t.shown(maxNameColumn))))
		peer = max(peer, min(maxPeerColumn, text.Columns(open(t.Remote))))
	}
	const fixed = 5 + 11 + 8 + 5*2
	widths := []int{5, name, peer, lineWidth - fixed - name - peer, 11, 8}
	widest := len("LOCAL <-> REMOTE")
	for _, t := range p.Tunnels {
		widest = max(widest, text.Columns(strings.Join(t.pair(), "")))
	}
	widths[3] = min(widths[3], widest)

	p.line("")
	p.row(widths, []string{"STATE"}, []string{"TUNNEL"}, []string{"PEER"}, []string{"LOCAL <-> REMOTE"}, []string{"EVIDENCE"}, []string{" PACKETS"})
	for _, t := range p.Tunnels {
		packets := "       -"
		if p.live {
			packets = fmt.Sprintf("%8s", count(t.PacketsBy.Total()))
		}
		p.row(widths, []string{string(t.State)}, []string{t.shown(maxNameColumn)}, []string{open(t.Remote)}, t.pair(),
			[]string{t.evidence()}, []string{packets})
	}
}

// row writes cells in columns. A cell that is too wide for its column, even
// when its parts are put on lines of their own, pushes the next cells to a new
// line, so that nothing is cut.
func (p *page) row(widths []int, cells ...[]string) {
	var b strings.Builder
	used, offset := 0, 0
	emit := func(cell string) {
		if used > offset {
			p.line(b.String())
			b.Reset()
			used = 0
		}
		b.WriteString(strings.Repeat(" ", offset-used))
		b.WriteString(cell)
		used = offset + text.Columns(cell)
	}
	for i, parts := range cells {
		whole := strings.Join(parts, "")
		if text.Columns(whole) <= widths[i] {
			emit(whole)
		} else {
			for _, part := range parts {
				emit(part)
			}
		}
		// The gap belongs to the column, so a cell that fills both is too wide.
		offset += widths[i] + 2
		if used > offset-2 {
			used = offset + 1
		}
	}
	p.line(b.String())
}

// shown is the name of a tunnel, or its ID.
func (t Tunnel) shown(most int) string {
	if t.Name == "" {
		return t.ID
	}
	return text.Label(t.Name, most)
}

// open is an address, or a word for one that is not known.
func open(addr string) string {
	if addr == "" {
		return "any"
	}
	return addr
}

// pair is the first pair of selectors, in parts that may stand on two lines.
func (t Tunnel) pair() []string {
	if len(t.Selectors) == 0 {
		return []string{""}
	}
	s := t.Selectors[0]
	remote := "<-> " + s.end(s.Remote, s.RemotePort)
	if n := len(t.Selectors) - 1; n > 0 {
		remote += fmt.Sprintf(" +%d", n)
	}
	return []string{s.end(s.Local, s.LocalPort) + " ", remote}
}

// end is one end of a pair: a prefix, or the address of a single host, and
// protocol and port where there are any.
func (s Selector) end(prefix, port string) string {
	text := prefix
	for _, single := range [...]string{"/32", "/128"} {
		host, ok := strings.CutSuffix(prefix, single)
		if ok && (single == "/128" || !strings.Contains(host, ":")) {
			text = host
		}
	}
	switch {
	case s.Proto == "any" && port == "any":
		return text
	case port == "any":
		return text + "[" + s.Proto + "]"
	}
	return text + "[" + s.Proto + "/" + port + "]"
}

// evidence is that of the tunnel's traffic, or "-" for a tunnel that has no inbound SA.
func (t Tunnel) evidence() string {
	if t.State != Up && t.Evidence == firewall.NoEvidence {
		return "-"
	}
	return string(t.Evidence)
}
