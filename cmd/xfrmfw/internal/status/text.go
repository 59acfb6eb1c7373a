package status

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
)

// TextOptions say how much the text form shows.
type TextOptions struct {
	// All shows the details of every tunnel, and not only where there are few
	// or some were selected.
	All bool
	// Verbose also shows the rules themselves, the shared ones too, and cuts
	// no list short.
	Verbose bool
}

const (
	// lineWidth is what the text form keeps to, but for words that are longer.
	lineWidth = 100
	// fewTunnels is how many are shown in detail without being asked for.
	fewTunnels = 10
	// shortList is how many lines of a list are shown at most.
	shortList = 10
)

// WriteText writes the report for a person to read.
func (r Report) WriteText(w io.Writer, o TextOptions) error {
	p := page{Report: r, options: o, live: r.InSync != SyncUnknown}
	p.head()
	p.table()
	if o.All || o.Verbose || len(r.Tunnels) <= fewTunnels || len(r.Tunnels) < r.total {
		p.details()
	} else {
		p.line("")
		p.line("details: xfrmfw status TUNNEL (an ID, name, reqid or peer), or --all")
	}
	p.sums()
	p.lists()
	if _, err := w.Write(p.out.Bytes()); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// page collects the text.
type page struct {
	Report
	options TextOptions
	// live tells that there are counters.
	live bool
	out  bytes.Buffer
}

// line writes one line without spaces at its end.
func (p *page) line(text string) {
	p.out.WriteString(strings.TrimRight(text, " "))
	p.out.WriteByte('\n')
}

// wrap writes text broken at spaces: prefix begins the first line, and as many spaces
// the others.
func (p *page) wrap(prefix, words string) {
	for _, line := range text.Wrap(lineWidth, prefix, words) {
		p.line(line)
	}
}

// head writes what is true of the whole host.
func (p *page) head() {
	sync := "in sync"
	switch p.InSync {
	case OutOfSync:
		sync = "OUT OF SYNC (" + text.Count(len(p.Differences), "difference") + ")"
	case SyncUnknown:
		sync = "from a snapshot, without live rules"
	}
	first := sync
	if p.Variant != "" {
		first += ", iptables-" + p.Variant
	}
	p.wrap("xfrmfw: ", first+fmt.Sprintf(", tag %#x, verified %#x", p.Marks.Tag, p.Marks.Verified))

	var second []string
	if p.Time != "" {
		second = append(second, p.at.UTC().Format("2006-01-02 15:04:05 MST"))
	}
	if p.live {
		second = append(second, p.daemon())
	}
	if len(second) > 0 {
		p.line("        " + strings.Join(second, ", "))
	}
	if p.Daemon.LastError != "" {
		p.wrap("        last error: ", text.Escape(p.Daemon.LastError, 1000))
	}

	states := map[State]int{}
	for _, t := range p.Tunnels {
		states[t.State]++
	}
	third := text.Count(len(p.Tunnels), "tunnel")
	if len(p.Tunnels) < p.total {
		third = fmt.Sprintf("%d of %s", len(p.Tunnels), text.Count(p.total, "tunnel"))
	}
	for _, s := range [...]State{Up, Down, Remembered} {
		if states[s] > 0 {
			third += fmt.Sprintf(", %d %s", states[s], s)
		}
	}
	if n := len(p.Ignored); n > 0 {
		third += fmt.Sprintf("; %d ignored", n)
	}
	if n := len(p.Warnings); n > 0 {
		third += "; " + text.Count(n, "warning")
	}
	p.line("        " + third)
}

func (p *page) daemon() string {
	word := "no daemon running"
	if p.Daemon.Running {
		word = "daemon running"
	}
	at, err := time.Parse(time.RFC3339, p.Daemon.LastReconcile)
	if err != nil || p.at.IsZero() {
		return word
	}
	word += fmt.Sprintf(", last reconciled %s ago", duration(max(0, int64(p.at.Sub(at)/time.Second))))
	if by := p.Daemon.ReconciledBy; by != "" && (by != "daemon" || !p.Daemon.Running) {
		word += " by " + text.Escape(by, 20)
	}
	return word
}

// sums writes what was dropped and counted.
func (p *page) sums() {
	if !p.live && len(p.Guards) == 0 {
		return
	}
	p.line("")
	defer p.guards()
	if !p.live {
		return
	}
	var dropped []string
	for _, d := range p.Drops.named() {
		if d.Packets > 0 {
			dropped = append(dropped, fmt.Sprintf("%s %s (%s)", d.name, count(d.Packets), size(d.Bytes)))
		}
	}
	if len(dropped) == 0 {
		dropped = []string{"nothing"}
	}
	p.wrap("dropped  ", strings.Join(dropped, ", "))
	p.wrap("counted  ", fmt.Sprintf("packets with stray marks %s, out of unknown states %s", count(p.Counts.StrayTag), count(p.Counts.Unknown)))
}

// lists writes differences, shared rules, ignored objects and warnings.
func (p *page) lists() {
	if len(p.Differences) > 0 {
		p.line("")
		p.line("differences from what the kernel's states and policies ask for (xfrmfw apply mends them)")
		p.items(p.Differences)
	}
	if p.options.Verbose && len(p.SharedRules) > 0 {
		p.line("")
		p.line("shared rules")
		for _, r := range p.SharedRules {
			p.rule(r, "")
		}
	}
	if len(p.Ignored) > 0 {
		p.line("")
		p.line("ignored")
		texts := make([]string, len(p.Ignored))
		for i, o := range p.Ignored {
			texts[i] = o.Object + ": " + o.Reason
		}
		p.items(texts)
	}
	if len(p.Warnings) > 0 {
		p.line("")
		p.line("warnings")
		for _, w := range p.Warnings {
			p.wrap("  ", text.Escape(w, 2000))
		}
	}
}

// guards tells how many pairs are guarded, and names those that outlive their
// policies.
func (p *page) guards() {
	if len(p.Guards) == 0 {
		return
	}
	by := make(map[string]int)
	var texts []string
	for _, g := range p.Guards {
		by[g.Source]++
		if g.Source == string(firewall.LiveGuard) && !p.options.Verbose {
			continue
		}
		text := fmt.Sprintf("%s <-> %s, %s", g.Remote, g.Local, g.Source)
		if g.Since != "" {
			text += ", since " + g.Since
		}
		if g.Expires != "" {
			text += ", until " + g.Expires
		}
		texts = append(texts, text)
	}
	p.line(fmt.Sprintf("guarded  %s: %d live, %d remembered, %d configured", text.Count(len(p.Guards), "pair"),
		by[string(firewall.LiveGuard)], by[string(firewall.MemoryGuard)], by[string(firewall.ConfigGuard)]))
	p.items(texts)
}

// items writes the first lines of a list, or all.
func (p *page) items(texts []string) {
	for i, item := range texts {
		if i == shortList && len(texts) > shortList+1 && !p.options.Verbose {
			p.line(fmt.Sprintf("  and %d more (--verbose)", len(texts)-i))
			return
		}
		p.wrap("  ", text.Escape(item, 2000))
	}
}
