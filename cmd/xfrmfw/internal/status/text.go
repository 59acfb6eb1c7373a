package status

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TextOptions say how much the text form shows.
type TextOptions struct {
	// All shows the details of every tunnel, and not only where there are few
	// or some were selected.
	All bool
	// Rules shows the rules of each tunnel, one line each, with their counters.
	Rules bool
	// Verbose also shows the text of the rules, the shared ones too, and cuts
	// no list short.
	Verbose bool
}

const (
	// lineWidth is the width of the text form, but for words that are longer.
	lineWidth = 100
	// fewTunnels is how many are shown in detail without being asked for.
	fewTunnels = 10
	// shortList is how many lines of a list are shown at most.
	shortList = 10
)

// WriteText writes the report for a person to read.
func (r Report) WriteText(w io.Writer, o TextOptions) error {
	o.Rules = o.Rules || o.Verbose
	p := page{Report: r, options: o, live: r.InSync != SyncUnknown}
	p.head()
	p.table()
	switch {
	case o.All || o.Verbose || len(r.Tunnels) <= fewTunnels || len(r.Tunnels) < r.total:
		p.details()
		if p.options.Rules && len(r.SharedRules) > 0 {
			p.line("")
			p.line("* the rule serves other SAs too")
		}
	default:
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
	// live is true if there are counters.
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

// head writes the answer first: whether the rules are right, how the tunnels are, the drops. The second line is about
// the host.
func (p *page) head() {
	var answer []string
	switch {
	case p.unloaded:
		p.wrap("", "not loaded: no rule of xfrmfw is in place. Load them with: xfrmfw apply")
	case p.stands != "":
		p.wrap("", fmt.Sprintf("OUT OF SYNC: engine %s is in force, and engine %s was asked for. See the rules in force with: xfrmfw status --engine %[1]s", p.stands, p.Engine))
	case p.InSync == OutOfSync:
		answer = append(answer, "OUT OF SYNC ("+text.Count(len(p.Differences), "difference")+")")
	case p.InSync == SyncUnknown:
		answer = append(answer, "from a snapshot, without live rules")
	default:
		answer = append(answer, "in sync")
	}
	answer = append(answer, p.tunnels())
	if n := len(p.Guards); n > 0 && !p.unloaded {
		answer = append(answer, text.Count(n, "pair")+" guarded")
	}
	if p.live && !p.unloaded {
		dropped := "nothing dropped"
		if n := p.Drops.packets(); n > 0 {
			dropped = "dropped " + count(n) + " packets"
		}
		answer = append(answer, dropped)
	}
	if n := len(p.unusual()); n > 0 {
		answer = append(answer, fmt.Sprintf("%d ignored", n))
	}
	if n := len(p.Warnings); n > 0 {
		answer = append(answer, text.Count(n, "warning"))
	}
	p.wrap("", strings.Join(answer, "; "))

	var host []string
	if p.Engine == string(engine.NFTables) {
		host = append(host, "engine nftables")
	}
	if p.Variant != "" {
		host = append(host, "iptables-"+string(p.Variant))
	}
	if p.live {
		host = append(host, p.daemon())
	}
	if p.Time != "" {
		host = append(host, p.at.UTC().Format("2006-01-02 15:04:05 MST"))
	}
	if len(host) > 0 {
		p.wrap("", strings.Join(host, ", "))
	}
	if usual := firewall.DefaultMarks(); p.options.Rules || p.Marks != (Marks{usual.Tag, usual.Verified}) {
		p.line(fmt.Sprintf("marks: tag %#x, verified %#x", p.Marks.Tag, p.Marks.Verified))
	}
	if p.Daemon.LastError != "" {
		p.wrap("last error: ", text.Escape(p.Daemon.LastError, 1000))
	}
}

// tunnels counts the tunnels and their states.
func (p *page) tunnels() string {
	states := map[State]int{}
	for _, t := range p.Tunnels {
		states[t.State]++
	}
	all := text.Count(len(p.Tunnels), "tunnel")
	if len(p.Tunnels) < p.total {
		all = fmt.Sprintf("%d of %s", len(p.Tunnels), text.Count(p.total, "tunnel"))
	}
	var by []string
	for _, s := range [...]State{Up, Down, Remembered} {
		if states[s] > 0 {
			by = append(by, fmt.Sprintf("%d %s", states[s], s))
		}
	}
	if len(by) > 0 {
		all += ": " + strings.Join(by, ", ")
	}
	return all
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
	word += fmt.Sprintf(", reconciled %s ago", duration(max(0, int64(p.at.Sub(at)/time.Second))))
	if by := p.Daemon.ReconciledBy; by != "" && (by != "daemon" || !p.Daemon.Running) {
		word += " by " + text.Escape(by, 20)
	}
	return word
}

// sums writes the drops, counts and guards, without zeros.
func (p *page) sums() {
	if p.unloaded {
		return
	}
	var dropped []string
	for _, d := range p.Drops.named() {
		if d.Packets > 0 {
			dropped = append(dropped, fmt.Sprintf("%s %s (%s)", d.name, count(d.Packets), size(d.Bytes)))
		}
	}
	counted := p.Counts.StrayTag > 0 || p.Counts.Unknown > 0
	if len(dropped) == 0 && !counted && len(p.Guards) == 0 {
		return
	}
	p.line("")
	if len(dropped) > 0 {
		p.wrap("dropped  ", strings.Join(dropped, ", "))
	}
	if counted {
		p.wrap("counted  ", fmt.Sprintf("packets with stray marks %s, of unknown SAs %s", count(p.Counts.StrayTag), count(p.Counts.Unknown)))
	}
	p.guards()
	p.lines()
}

// unusual returns the ignored objects but for those that each gateway with an IKE daemon
// has.
func (p *page) unusual() []xfrm.Ignored {
	return slices.DeleteFunc(slices.Clone(p.Ignored), xfrm.Ignored.Usual)
}

// lists writes differences, shared rules, ignored objects and warnings.
func (p *page) lists() {
	if len(p.Differences) > 0 && !p.unloaded && (p.stands == "" || p.options.Verbose) {
		p.line("")
		p.line("differences from the wanted rules. Repair with: xfrmfw apply")
		p.items(p.Differences)
	}
	if p.options.Verbose && len(p.SharedRules) > 0 {
		p.line("")
		p.line("shared rules")
		for _, r := range p.SharedRules {
			p.rule(r, "")
		}
	}
	ignored := p.unusual()
	if p.options.Verbose {
		ignored = p.Ignored
	}
	if len(ignored) > 0 {
		p.line("")
		p.line("ignored")
		texts := make([]string, len(ignored))
		for i, o := range ignored {
			texts[i] = o.Object + ": " + o.Reason
		}
		p.items(texts)
	}
	if len(p.Warnings) > 0 {
		p.line("")
		p.line("warnings")
		p.items(p.Warnings)
	}
}

// guards writes the number of guarded pairs, and the pairs that outlive their policies.
func (p *page) guards() {
	if len(p.Guards) == 0 {
		return
	}
	by := make(map[string]int)
	var texts []string
	for _, g := range p.Guards {
		by[g.Source]++
		if g.Source == string(guard.FromPolicy) && !p.options.Verbose {
			continue
		}
		text := fmt.Sprintf("%s <-> %s, %s", g.Local, g.Remote, g.Source)
		if g.Since != "" {
			text += ", since " + g.Since
		}
		if g.Expires != "" {
			text += ", until " + g.Expires
		}
		texts = append(texts, text)
	}
	p.line(fmt.Sprintf("guarded  %s: %d live, %d remembered, %d configured", text.Count(len(p.Guards), "pair"),
		by[string(guard.FromPolicy)], by[string(guard.FromMemory)], by[string(guard.FromConfig)]))
	p.items(texts)
}

// lines writes the networks that guards let pass beside their tunnel.
func (p *page) lines() {
	if len(p.Lines) == 0 {
		return
	}
	texts := make([]string, len(p.Lines))
	for i, l := range p.Lines {
		texts[i] = fmt.Sprintf("%s by %s, until %s", l.Network, l.Interface, l.Expires)
	}
	p.line(fmt.Sprintf("lines    %s beside a tunnel: guards let the network pass there", text.Count(len(texts), "route")))
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
