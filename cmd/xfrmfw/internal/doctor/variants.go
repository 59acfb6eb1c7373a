package doctor

import (
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// twoVariants are rules of the other iptables variant. The kernel runs them too,
// and an accept in one variant does not bind the other.
func twoVariants(in Input) []Finding {
	var found []Finding
	rules := 0
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		save := in.Other.Live[family]
		var ours []string
		for _, t := range save.Tables {
			for _, c := range t.Chains {
				rules += len(c.Rules)
				if c.Ours() {
					ours = append(ours, c.Name)
				}
			}
		}
		if len(ours) > 0 {
			found = append(found, Finding{
				Severity: Error, Seen: fmt.Sprintf("%s of xfrmfw in iptables-%s too (%s): %s", text.Count(len(ours), "chain"), in.Other.Variant, family, text.FirstOf(ours)),
				Breaks: "no program keeps them current: they judge by tunnels that may be gone",
				Mend:   []string{"xfrmfw clear --variant " + in.Other.Variant},
			})
		}
		found = append(found, in.otherDrops(family, save)...)
		found = append(found, in.otherNAT(family, save)...)
	}
	if len(found) == 0 && rules > 0 {
		found = append(found, Finding{
			Severity: Note, Seen: fmt.Sprintf("%s in iptables-%s, beside those of iptables-%s", text.Count(rules, "rule"), in.Other.Variant, in.Variant),
			Breaks: "none now: they drop and rewrite no tunnel traffic; but neither variant shows the other's",
			Mend:   []string{fmt.Sprintf("%s-save    # shows them", program(xfrm.IPv4, in.Other.Variant))},
		})
	}
	return found
}

// otherDrops finds built-in chains of the other variant that may drop accepted packets,
// unless they begin with the lines that doctor prints.
func (in Input) otherDrops(family xfrm.Family, save live.Tables) []Finding {
	var found []Finding
	table := save.Table(rules.Filter)
	mark := fmt.Sprintf("-m mark --mark %#x/%#x -j ACCEPT", in.verified(), in.verified())
	into := "-m policy --dir out --pol ipsec -j ACCEPT"
	wanted := map[string][]string{
		"INPUT":   {"-p esp -j ACCEPT", "-p udp -m multiport --dports 500,4500 -j ACCEPT", mark},
		"FORWARD": {mark, into},
		"OUTPUT":  {"-p esp -j ACCEPT", "-p udp -m multiport --sports 500,4500 -j ACCEPT", into},
	}
	for _, name := range []string{"INPUT", "FORWARD", "OUTPUT"} {
		chain, ok := table.Chain(name)
		if !ok {
			continue
		}
		first := slices.IndexFunc(chain.Rules, func(r live.Rule) bool {
			verdicts := decides(table, r)
			return slices.Contains(verdicts, "DROP") || slices.Contains(verdicts, "REJECT")
		})
		if first < 0 && chain.Policy != "DROP" {
			continue
		}
		if first < 0 {
			first = len(chain.Rules)
		}
		var lines []string
		for _, w := range wanted[name] {
			if !slices.ContainsFunc(chain.Rules[:first], func(r live.Rule) bool { return r.Raw == w }) {
				lines = append(lines, fmt.Sprintf("%s -I %s %s", program(family, in.Other.Variant), name, w))
			}
		}
		if len(lines) == 0 {
			continue
		}
		seen := "its policy is DROP"
		if first < len(chain.Rules) {
			seen = "-A " + name + " " + chain.Rules[first].Raw
		}
		found = append(found, Finding{
			Severity: Error, Seen: fmt.Sprintf("%s filter %s of iptables-%s: %s", family, name, in.Other.Variant, seen),
			Breaks: fmt.Sprintf("it can drop packets that xfrmfw accepts in iptables-%s: an accept there does not bind it", in.Variant),
			Mend:   lines,
		})
	}
	return found
}

// otherNAT are rules of the other variant that rewrite tunnel traffic.
func (in Input) otherNAT(family xfrm.Family, save live.Tables) []Finding {
	table := save.Table(rules.NAT)
	chain, _ := table.Chain("POSTROUTING")
	const spare = "-m policy --dir out --pol ipsec -j ACCEPT"
	for _, r := range chain.Rules {
		if r.Raw == spare {
			return nil
		}
		verdicts := decides(table, r)
		if slices.ContainsFunc(verdicts, func(v string) bool { return v == "MASQUERADE" || v == "SNAT" || v == "NETMAP" }) {
			return []Finding{{
				Severity: Error, Seen: fmt.Sprintf("%s nat of iptables-%s: -A POSTROUTING %s", family, in.Other.Variant, r.Raw),
				Breaks: "tunnel traffic that it rewrites no longer fits its policy, and is dropped as a leak",
				Mend:   []string{fmt.Sprintf("%s -t nat -I POSTROUTING %s", program(family, in.Other.Variant), spare)},
			}}
		}
	}
	return nil
}
