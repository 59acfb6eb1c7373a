package status

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

// WatchOptions say how a report is laid out for status --watch.
type WatchOptions struct {
	// Width is the number of columns. Height is the number of lines, 0 for as
	// many as there are.
	Width, Height int
	// Color allows bold and coloured text.
	Color bool
	// Interval is shown in the first line.
	Interval time.Duration
	// Failed is the error of the last reading, empty for none.
	Failed string
}

// WatchLines lays out the report with its rates: the host, a line for each
// tunnel, and the drops. Where there is not room for all tunnels, those
// that carry something now come first. No line is wider than Width.
func (r Report) WatchLines(rates Rates, o WatchOptions) []string {
	v := view{Report: r, rates: rates, WatchOptions: o}
	v.Width = max(v.Width, 20)
	head := v.head()
	foot := v.foot()
	table := v.tunnels(v.Height - len(head) - len(foot))
	lines := append(append(head, table...), foot...)
	if v.Height > 0 && len(lines) > v.Height {
		lines = lines[:v.Height]
	}
	return lines
}

// view lays out one screen.
type view struct {
	Report
	rates Rates
	WatchOptions
}

// style is how a line is shown on a terminal with colours (ECMA-48, SGR).
type style string

const (
	plainText style = ""
	bold      style = "1"
	alarm     style = "1;31"
	dim       style = "2"
)

// put fits text to the width.
func (v view) put(s style, words string) string {
	line := strings.TrimRight(text.Fit(words, v.Width), " ")
	if !v.Color || s == plainText || line == "" {
		return line
	}
	return "\x1b[" + string(s) + "m" + line + "\x1b[0m"
}

func (v view) head() []string {
	at := ""
	if !v.at.IsZero() {
		at = v.at.UTC().Format("2006-01-02 15:04:05")
	}
	title := fmt.Sprintf("xfrmfw, every %s", v.Interval)
	if gap := v.Width - text.Columns(title) - len(at); gap > 1 {
		title += strings.Repeat(" ", gap) + at
	}
	lines := []string{v.put(bold, title)}
	if v.Failed != "" {
		lines = append(lines, v.put(alarm, "can't read now: "+text.Escape(v.Failed, 500)))
	}
	up := 0
	for _, t := range v.Tunnels {
		if t.State == Up {
			up++
		}
	}
	states := fmt.Sprintf("%s, %d up", text.Count(len(v.Tunnels), "tunnel"), up)
	if len(v.Tunnels) < v.total {
		states = fmt.Sprintf("%d of %s, %d up", len(v.Tunnels), text.Count(v.total, "tunnel"), up)
	}
	if n := len(v.Guards); n > 0 {
		states += fmt.Sprintf(", %s guarded", text.Count(n, "pair"))
	}
	sync, how := "in sync", plainText
	if v.InSync == OutOfSync {
		sync, how = "OUT OF SYNC ("+text.Count(len(v.Differences), "difference")+", see xfrmfw check)", alarm
	}
	daemon := "no daemon"
	if v.Daemon.Running {
		daemon = "daemon running"
	}
	if whole := states + "; " + sync + ", " + daemon; text.Columns(whole) <= v.Width {
		lines = append(lines, v.put(how, whole))
	} else {
		lines = append(lines, v.put(plainText, states), v.put(how, sync+", "+daemon))
	}
	return append(lines, "")
}

// column is one of the table's.
type column struct {
	title string
	width int
	// right aligns it; rate is a rate, which stands close to its total.
	right, rate bool
	text        func(t Tunnel, r TunnelRates) string
}

// gap is the space before a column.
func (c column) gap() int {
	if c.rate {
		return 1
	}
	return 2
}

// columns that fit the width, the most telling ones first.
func (v view) columns() []column {
	name := len("TUNNEL")
	for _, t := range v.Tunnels {
		name = max(name, text.Columns(t.shown(maxNameColumn)))
	}
	// The fixed columns beside the name take so much, with their gaps.
	const others = 5 + 8 + 7 + 2 + 2 + 1
	name = min(name, maxNameColumn, max(6, v.Width-others))
	all := []column{
		{"STATE", 5, false, false, func(t Tunnel, _ TunnelRates) string { return text.Fit(string(t.State), 5) }},
		{"TUNNEL", name, false, false, func(t Tunnel, _ TunnelRates) string { return text.Fit(t.shown(maxNameColumn), name) }},
		{"PACKETS", 8, true, false, func(t Tunnel, _ TunnelRates) string { return count(t.PacketsBy.Total()) }},
		{"/s", 7, true, true, func(_ Tunnel, r TunnelRates) string { return rate(r.Packets) }},
	}
	used := others + name
	bytes := func(dir string, of func(TunnelRates) float64) []column {
		return []column{
			{strings.ToUpper(dir), 9, true, false, func(t Tunnel, _ TunnelRates) string { return size(t.bytes(dir)) }},
			{"/s", 9, true, true, func(_ Tunnel, r TunnelRates) string { return size(uint64(of(r) + 0.5)) }},
		}
	}
	in := bytes("in", func(r TunnelRates) float64 { return r.InBytes })
	out := bytes("out", func(r TunnelRates) float64 { return r.OutBytes })
	peer := column{"PEER", maxPeerColumn, false, false, func(t Tunnel, _ TunnelRates) string { return text.Fit(open(t.Remote), maxPeerColumn) }}
	evidence := column{"EVIDENCE", 11, false, false, func(t Tunnel, _ TunnelRates) string { return string(t.Evidence) }}
	pair := column{"LOCAL <-> REMOTE", 40, false, false, func(t Tunnel, _ TunnelRates) string { return text.Fit(strings.Join(t.pair(), ""), 40) }}
	// With room for one rate only, both ways are told by their rates.
	rates := []column{in[1], out[1]}
	rates[0].title, rates[1].title, rates[0].rate, rates[1].rate = "IN/s", "OUT/s", false, false
	for _, more := range [][]column{append(in, out...), rates, {peer}, {evidence}, {pair}} {
		width := 0
		for _, c := range more {
			width += c.gap() + c.width
		}
		if len(all) > 4 && more[0].title == "IN/s" {
			continue // shown with the totals
		}
		if used+width > v.Width {
			continue
		}
		all, used = append(all, more...), used+width
	}
	return all
}

func (t Tunnel) bytes(dir string) uint64 {
	sum := uint64(0)
	for _, sa := range t.SAs {
		if sa.Dir == dir {
			sum += sa.Bytes
		}
	}
	return sum
}

// rate shows packets a second in at most 8 columns.
func rate(r float64) string {
	switch {
	case r < 0.05:
		return "0"
	case r < 1000:
		return fmt.Sprintf("%.1f", r)
	}
	return count(uint64(math.Round(r)))
}

// tunnels is the table, in at most so many lines where the height counts.
func (v view) tunnels(room int) []string {
	if len(v.Tunnels) == 0 {
		return []string{v.put(plainText, "no tunnels")}
	}
	order := make([]int, len(v.Tunnels))
	for i := range order {
		order[i] = i
	}
	more := 0
	if v.Height > 0 && len(order)+1 > room {
		busy := func(i int) float64 {
			r := v.of(i)
			return r.InBytes + r.OutBytes + r.Packets
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(busy(b), busy(a)) })
		shown := max(room-2, 1) // the titles, and the line that tells of the others
		more = len(order) - shown
		order = order[:shown]
	}
	cols := v.columns()
	line := func(show func(column) string) string {
		var b strings.Builder
		for i, c := range cols {
			if i > 0 {
				b.WriteString(strings.Repeat(" ", c.gap()))
			}
			cell := show(c)
			pad := strings.Repeat(" ", max(c.width-text.Columns(cell), 0))
			if c.right {
				cell = pad + cell
			} else {
				cell += pad
			}
			b.WriteString(cell)
		}
		return b.String()
	}
	lines := []string{v.put(bold, line(func(c column) string { return c.title }))}
	for _, i := range order {
		how := plainText
		if v.Tunnels[i].State != Up {
			how = dim
		}
		lines = append(lines, v.put(how, line(func(c column) string { return c.text(v.Tunnels[i], v.of(i)) })))
	}
	if more > 0 {
		lines = append(lines, v.put(dim, fmt.Sprintf("and %d more, with less traffic", more)))
	}
	return lines
}

func (v view) of(i int) TunnelRates {
	if i < len(v.rates.Tunnels) {
		return v.rates.Tunnels[i]
	}
	return TunnelRates{}
}

// foot writes drops and faults.
func (v view) foot() []string {
	lines := []string{""}
	add := func(name string, total uint64, perSecond float64) {
		how := plainText
		if perSecond >= 0.05 {
			how = alarm
		}
		lines = append(lines, v.put(how, fmt.Sprintf("%-20s %8s  %8s/s", name, count(total), rate(perSecond))))
	}
	for _, d := range v.Drops.named() {
		if d.Packets > 0 {
			add("dropped as "+d.name, d.Packets, v.rates.Drops[d.name])
		}
	}
	if len(lines) == 1 {
		lines = append(lines, v.put(plainText, "dropped nothing"))
	}
	if n := v.Counts.StrayTag; n > 0 {
		add("stray marks", n, v.rates.Counts["stray"])
	}
	if n := v.Counts.Unknown; n > 0 {
		add("of unknown states", n, v.rates.Counts["unknown"])
	}
	if n := len(v.Warnings); n > 0 {
		lines = append(lines, v.put(bold, text.Count(n, "warning")+", see xfrmfw status: "+text.Escape(v.Warnings[0], 300)))
	}
	return lines
}
