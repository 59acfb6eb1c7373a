package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// failures are steps of the examination that could not be done.
func failures(in Input) []Finding {
	var found []Finding
	for _, f := range in.Failures {
		finding := Finding{
			Severity: Error, Seen: f.What + ": " + f.Why, Mend: f.Mend,
			Breaks: "its findings are missing here, and other commands may fail for the same reason",
		}
		if f.Minor {
			finding.Severity = Note
			finding.Breaks = "the findings that need it are missing here"
		}
		found = append(found, finding)
	}
	return found
}

// markClash finds routing rules that match packets by our bits, and those that don't
// match packets because of our bits.
func markClash(in Input) []Finding {
	marks := in.Config.Marks
	var found []Finding
	if clash := firewall.CheckMarks(in.Snapshot, live.WrittenMarks(in.Live), marks); clash != nil {
		found = append(found, Finding{
			Severity: Error, Seen: clash.Seen(), Mend: []string{clash.Remedy()},
			Breaks: "tunnel traffic would be routed by it; apply refuses to write anything",
		})
	}
	for _, r := range firewall.UnmaskedRules(in.Snapshot.Host.Rules, marks) {
		found = append(found, Finding{
			Severity: Note, Seen: fmt.Sprintf("the routing rule \"ip rule\" %d compares the bits of xfrmfw, %#x, too: fwmark %s", r.Priority, marks.Both(), r.Mark),
			Breaks: "it does not match a packet of a tunnel that carries these bits beside the mark that the rule is for",
			Mend:   []string{fmt.Sprintf("if tunnel traffic is to be routed by it, give it a mask: fwmark %#x/%#x", r.Mark.Value, r.Mark.Mask&^marks.Both())},
		})
	}
	return found
}

// outOfSync are rules that are not those that the kernel's policies ask for.
func outOfSync(in Input) []Finding {
	displaced := ahead(in)
	var lines []string
	missing := make(map[xfrm.Family]int)
	for _, d := range in.Differences {
		switch {
		case d.Kind == plan.JumpNotFirst && len(displaced) > 0:
			continue
		case d.Kind == plan.JumpMissing:
			missing[d.Family]++
		}
		lines = append(lines, d.String())
	}
	lines = append(lines, in.TableDifferences...)
	if len(lines) == 0 {
		return nil
	}
	f := Finding{
		Severity: Error, Seen: fmt.Sprintf("%s between the live rules and the wanted ones: %s", text.Count(len(lines), "difference"), text.FirstOf(lines)),
		Breaks: "tunnels may be cut, and forged traffic may pass",
		Mend:   []string{"xfrmfw apply"},
	}
	var gone []string
	for _, rs := range in.Result.Rulesets {
		if len(rs.Hooks) > 0 && missing[rs.Family] == len(rs.Hooks) {
			gone = append(gone, rs.Family.String())
		}
	}
	if len(gone) > 0 {
		f.Seen = fmt.Sprintf("no rule of xfrmfw is in place, or no jump leads to the rules (%s)", strings.Join(gone, ", "))
		f.Breaks = "tunnel traffic is not verified, and forged packets and leaks are not stopped; another program has " +
			"flushed the tables (firewalld, shorewall and iptables-restore do when they start), or apply was never run"
		f.Mend = append(f.Mend, "# and after each start of that program; or let xfrmfw daemon run, which puts its rules back")
	}
	return []Finding{f}
}

// ahead are decisive rules of others that stand before our jumps.
func ahead(in Input) []Finding {
	var found []Finding
	for _, rs := range in.Result.Rulesets {
		for _, h := range rs.Hooks {
			table := in.Live[rs.Family].Table(h.Table)
			chain, ok := table.Chain(h.From)
			at := slices.IndexFunc(chain.Rules, live.Rule.Jump)
			if !ok || at < 1 {
				continue
			}
			var lines []string
			drops := false
			for _, r := range chain.Rules[:at] {
				if verdicts := decides(table, r); len(verdicts) > 0 {
					lines = append(lines, fmt.Sprintf("-A %s %s", h.From, r.Raw))
					drops = drops || slices.Contains(verdicts, "DROP") || slices.Contains(verdicts, "REJECT")
				}
			}
			if len(lines) == 0 {
				continue
			}
			f := Finding{
				Severity: Warning, Seen: fmt.Sprintf("%s %s: ahead of the jump of xfrmfw: %s", rs.Family, h.Table, text.FirstOf(lines)),
				Breaks: "packets that it accepts are not held to in:, out: and lockdown:",
				Mend:   []string{"xfrmfw apply", "# after the program that wrote the rule, each time; or let xfrmfw daemon run"},
			}
			switch {
			case h.Table == rules.Mangle:
				f.Severity = Error
				f.Breaks = "packets that it decides on are never checked: tunnel traffic is not verified, spoofed packets and leaks pass"
			case h.Table == rules.NAT && in.Exempt:
				f.Severity = Note
				f.Breaks = "none now: table inet xfrmfw keeps tunnel traffic from it; without that table the traffic would no longer fit its policy"
			case h.Table == rules.NAT:
				f.Severity = Error
				f.Breaks = "tunnel traffic that it rewrites no longer fits its policy: the first packet of a flow leaves in clear, the rest is dropped as a leak"
			case drops:
				f.Breaks = "tunnel traffic that it drops never reaches the rule that would accept it"
				f.Mend = append(f.Mend, "# where it is to refuse tunnel traffic too, as a ban of fail2ban: verified: return in xfrmfw.yaml keeps it in force")
			}
			found = append(found, f)
		}
	}
	return found
}

// decisive are the targets that end a packet's way through a table.
var decisive = map[string]bool{
	"ACCEPT": true, "DROP": true, "REJECT": true, "MASQUERADE": true, "SNAT": true, "NETMAP": true, "QUEUE": true, "NFQUEUE": true,
}

// decides lists the decisive targets that a rule leads to, by itself or through
// the chains that it jumps to.
func decides(table live.Table, r live.Rule) []string {
	var found []string
	seen := make(map[string]bool)
	var follow func(live.Rule)
	follow = func(r live.Rule) {
		if decisive[r.Target] {
			found = append(found, r.Target)
			return
		}
		chain, ok := table.Chain(r.Target)
		if !ok || chain.Ours() || seen[r.Target] {
			return
		}
		seen[r.Target] = true
		for _, r := range chain.Rules {
			follow(r)
		}
	}
	follow(r)
	slices.Sort(found)
	return slices.Compact(found)
}

// unreadable are tables that iptables can't print.
func unreadable(in Input) []Finding {
	var found []Finding
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		for _, t := range in.Live[family].Unreadable {
			err := &plan.UnreadableError{Family: family, Table: t}
			found = append(found, Finding{
				Severity: Error, Seen: err.Seen(), Mend: []string{err.Remedy()},
				Breaks: "xfrmfw cannot see its rules in that table, and writes none",
			})
		}
	}
	return found
}

// foreignMarks are rules of others that write, or keep for later, our bits.
func foreignMarks(in Input) []Finding {
	if in.tableDecides() {
		return nil
	}
	var found []Finding
	both := in.Config.Marks.Both()
	add := func(where string, have map[xfrm.Family]live.Tables) {
		for _, m := range live.ForeignMarks(have, in.Config.Marks.Both()) {
			f := Finding{
				Severity: Warning, Seen: where + m.String(),
				Breaks: "it clears VERIFIED on packets that it meets after the rules of xfrmfw, so other firewalls do not see the mark",
				Mend:   []string{fmt.Sprintf("# give that rule a mask without %#x: %#x at most", both, ^both)},
			}
			if m.Sets {
				f.Severity = Error
				f.Breaks = "it can set the bits of xfrmfw on cleartext: xfrmfw clears them at its next hook, and until then other firewalls take the packet for tunnel traffic"
			}
			found = append(found, f)
		}
	}
	add("", in.Live)
	add("iptables-"+in.Other.Variant+", ", in.Other.Live)
	return found
}

// rawRules are rules of the raw table, which comes before all others, that keep
// IPsec or the tracking of connections out.
func rawRules(in Input) []Finding {
	var found []Finding
	for _, live := range []map[xfrm.Family]live.Tables{in.Live, in.Other.Live} {
		for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
			for _, c := range live[family].Table("raw").Chains {
				for _, r := range c.Rules {
					line := fmt.Sprintf("%s raw: -A %s %s", family, c.Name, r.Raw)
					switch {
					case r.Target == "NOTRACK" || r.Target == "CT" && strings.Contains(r.Raw, "--notrack"):
						found = append(found, Finding{
							Severity: Warning, Seen: line,
							Breaks: "packets that it meets have no flow, so no replies and no related errors: for tunnel traffic, path MTU discovery and in:/out: fail",
							Mend:   []string{fmt.Sprintf("# let that rule spare the tunnels' networks: %s", in.networks(family))},
						})
					case r.Target == "DROP" && dropsIPsec(r.Raw):
						f := Finding{Severity: Error, Seen: line, Breaks: "IKE or ESP is dropped before any rule of xfrmfw sees it"}
						f.Mend = []string{"# take that rule out, or let it spare IKE (UDP 500 and 4500) and ESP"}
						if plain(r.Raw) && plain(c.Name) {
							f.Mend = []string{fmt.Sprintf("%s -t raw -D %s %s", program(family, ""), c.Name, r.Raw)}
						}
						found = append(found, f)
					}
				}
			}
		}
	}
	return found
}

// dropsIPsec reports whether a rule that drops is about IKE or ESP, or about
// everything.
func dropsIPsec(raw string) bool {
	before, _, _ := strings.Cut(raw, "-j DROP")
	switch before = strings.TrimSpace(before); {
	case before == "":
		return true
	case strings.HasPrefix(before, "-p esp"), strings.HasPrefix(before, "-p ah"):
		return true
	}
	return strings.HasPrefix(before, "-p udp -m udp --dport 500") || strings.HasPrefix(before, "-p udp -m udp --dport 4500")
}

// markOnly finds a configuration that leaves the verdict to another firewall, where no
// other firewall matches VERIFIED.
func markOnly(in Input) []Finding {
	if !in.Config.MarkOnly || in.Live == nil {
		return nil
	}
	word := fmt.Sprintf("--mark %#x/%#x", in.verified(), in.verified())
	for _, have := range []map[xfrm.Family]live.Tables{in.Live, in.Other.Live} {
		for _, save := range have {
			for _, t := range save.Tables {
				for _, c := range t.Chains {
					if !c.Ours() && slices.ContainsFunc(c.Rules, func(r live.Rule) bool {
						return r.ID == "" && strings.Contains(r.Raw, word)
					}) {
						return nil
					}
				}
			}
		}
	}
	for _, t := range in.NFT.Tables {
		if t.MatchesMark(in.verified()) {
			return nil
		}
	}
	return []Finding{{
		Severity: Warning, Seen: "verified: return in the configuration, and no rule of another firewall matches on the mark " + fmt.Sprintf("%#x", in.verified()),
		Breaks: "verified traffic is treated like any other",
		Mend: []string{
			fmt.Sprintf("iptables -A FORWARD -m mark --mark %#x/%#x -j ACCEPT", in.verified(), in.verified()),
			"# or, in xfrmfw.yaml:", "verified: accept",
		},
	}}
}

// networks are the remote selectors of one family, for a sentence.
func (in Input) networks(family xfrm.Family) string {
	var all []string
	for _, t := range in.Set.Tunnels {
		for _, p := range t.Pairs {
			if p.Family() == family {
				all = append(all, p.Remote.String())
			}
		}
	}
	slices.Sort(all)
	return text.FirstOf(slices.Compact(all))
}

// program is the iptables of a family, of a variant if one is named.
func program(family xfrm.Family, variant string) string {
	name := "iptables"
	if family == xfrm.IPv6 {
		name = "ip6tables"
	}
	if variant != "" {
		name += "-" + variant
	}
	return name
}
