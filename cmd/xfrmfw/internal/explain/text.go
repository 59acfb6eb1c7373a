package explain

import (
	"fmt"
	"io"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// WriteText writes the explanation for a person to read: the verdict, the packet,
// the policies, and a line for each rule that decides something.
func (e Explanation) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(title, text string) { fmt.Fprintf(&b, "%-8s %s\n", title, text) }
	verdict := func(v Verdict) {
		action := strings.ToUpper(string(v.Action))
		if v.Action == Returned {
			action = "LEFT TO YOUR FIREWALL"
		}
		fmt.Fprintf(&b, "%s  %s\n\n", action, v.Text)
	}
	verdict(e.Verdict)
	if e.Fault != "" {
		line("FAULT", e.Fault)
	}
	line("packet", e.Packet.String())
	if len(e.Packet.Assumed) > 0 {
		line("", "assumed: "+strings.Join(e.Packet.Assumed, "; "))
	}
	for i, p := range e.Policies {
		title := "policy"
		if i > 0 {
			title = ""
		}
		line(title, e.policy(p))
	}
	if e.Tunnel != nil {
		line("tunnel", e.Tunnel.String())
	}
	writeSteps(&b, "rules", e.Steps)
	if e.Live != nil {
		b.WriteString("\nThe live rules differ: xfrmfw check names the differences. Repair with: xfrmfw apply. With the live rules:\n\n")
		verdict(*e.Live)
		writeSteps(&b, "rules", e.LiveSteps)
		for _, odd := range e.OddRules {
			line("odd", odd+" (not one of the wanted rules, and not judged)")
		}
	}
	for _, text := range e.Warnings {
		line("warning", text)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write explanation: %w", err)
	}
	return nil
}

// String is the packet in one line.
func (p Packet) String() string {
	var b strings.Builder
	b.WriteString(p.Proto + " ")
	switch {
	case p.DPort != 0 || p.SPort != 0:
		fmt.Fprintf(&b, "%s -> %s", port(p.Src, p.SPort), port(p.Dst, p.DPort))
	case p.Proto == "icmp" || p.Proto == "icmpv6":
		fmt.Fprintf(&b, "type %d code %d, %s -> %s", p.ICMPType, p.ICMPCode, p.Src, p.Dst)
	default:
		fmt.Fprintf(&b, "%s -> %s", p.Src, p.Dst)
	}
	if p.Ct != CtNew {
		b.WriteString(", " + p.Ct)
	}
	if p.Way != string(fromHost) {
		b.WriteString(", in by " + p.In)
		if p.Reqid != nil {
			fmt.Fprintf(&b, ", decrypted by an SA with reqid %d", *p.Reqid)
		} else if p.Proto != "esp" && p.Proto != "ah" {
			b.WriteString(", in clear")
		}
	}
	if p.Mark != 0 {
		fmt.Fprintf(&b, ", mark %#x", p.Mark)
	}
	switch way(p.Way) {
	case toHost:
		b.WriteString(", for this host")
	case through:
		b.WriteString(", forwarded to " + p.Out)
	case fromHost:
		b.WriteString(", of this host, out by " + p.Out)
	}
	return b.String()
}

func port(addr string, n uint16) string {
	if strings.Contains(addr, ":") {
		return fmt.Sprintf("[%s]:%d", addr, n)
	}
	return fmt.Sprintf("%s:%d", addr, n)
}

func (e Explanation) policy(p Policy) string {
	text := fmt.Sprintf("%-3s ", p.Dir)
	switch p.Action {
	case "none":
		return text + "none: " + p.Effect
	case "protect":
		text += fmt.Sprintf("%s priority %d, reqid %d", p.Selector, p.Priority, p.Reqid)
	default:
		text += fmt.Sprintf("%s %s priority %d", p.Action, p.Selector, p.Priority)
	}
	return text + ": " + p.Effect
}

// String is the tunnel's name and state.
func (t Tunnel) String() string {
	text := t.ID
	if t.Name != "" {
		text = t.Name + " (" + t.ID + ")"
	}
	text += ", " + t.State
	if t.Reqid != 0 {
		text += fmt.Sprintf(", reqid %d", t.Reqid)
	}
	return text
}

// writeSteps writes a line for each rule that says something. The rules that
// only lead on are part of the way there, which one hook has once.
func writeSteps(b *strings.Builder, title string, steps []Step) {
	if len(steps) == 0 {
		fmt.Fprintf(b, "%-8s no rule of xfrmfw matches\n", title)
		return
	}
	hook := ""
	for i, s := range steps {
		at := string(s.Table) + " " + s.Hook
		if at != hook {
			hook = at
			fmt.Fprintf(b, "%-8s %s: %s%s\n", title, at, trail(steps[i:]), unreached(s))
			title = ""
		}
		if s.Purpose != rules.PurposeDispatch {
			fmt.Fprintf(b, "%-8s   %-12s %s %d: %s  [%s]\n", "", s.Purpose, s.Chain, s.Place, s.Rule, s.ID)
		}
	}
}

func unreached(s Step) string {
	if s.Unreached {
		return "  (not reached: the kernel drops the packet first)"
	}
	return ""
}

// trail names the chains of ours that the packet passes in the first hook of steps.
func trail(steps []Step) string {
	var names []string
	for _, s := range steps {
		if s.Hook != steps[0].Hook || s.Table != steps[0].Table {
			break
		}
		name := strings.TrimPrefix(s.Chain, rules.ChainPrefix)
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return rules.ChainPrefix + strings.Join(names, " > ")
}
