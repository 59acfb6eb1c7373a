package live

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Other is a rule of another program on a packet's way, or a base chain of nftables, and the
// most that it may do. The rules that lead to it are not asked, so it may meet more packets
// here than in the kernel.
type Other struct {
	// Table is empty for a chain of nftables, and for rules of a variant of iptables that has
	// none of xfrmfw.
	Table rules.Table
	// Hook is the builtin chain from which the rule is reached, Before is true if packets
	// meet it before the rules of xfrmfw there. A chain of nftables may also be at Ingress
	// or Egress, before and behind all hooks.
	Hook   string
	Before bool
	// Priority is the kernel's for the table at the hook, by which packets meet several in
	// turn. Late is true if no program asks for VERIFIED at the hook any more.
	Priority int32
	Late     bool
	// Matches has the matches of the rule where Read is true. Otherwise it may match any
	// packet.
	Matches rules.Rule
	Read    bool
	// Ends is true if the rest of the table may not see the packets that it matches at the
	// hook, Stops if no other table may. Writes are the bits of the mark that it may change,
	// Sets those of them that it may set, and Rewrites is true if it may rewrite sources.
	Ends, Stops  bool
	Writes, Sets uint32
	Rewrites     bool
	// Remakes is true if it may write other addresses into packets without NAT, Untracks if it
	// may keep them from conntrack. With Forwards packets may pass by all rules, with Offloads
	// those of known flows.
	Remakes, Untracks, Forwards, Offloads bool
	// Text is the rule with its table and chain, as iptables takes it.
	Text string
}

// The places of chains at no hook of IP.
const (
	Ingress = "INGRESS"
	Egress  = "EGRESS"
)

// Apart are rules of others as they stand in tables that hold none of xfrmfw, by a program.
func Apart(others []Other, program string) []Other {
	list := slices.Clone(others)
	for i := range list {
		o := &list[i]
		o.Table, o.Ends, o.Text = "", false, program+" "+o.Text
	}
	return list
}

// Others returns the rules of other programs that may do more than drop packets: in the
// builtin chains, in the chains that these lead to, and in the chains of xfrmfw.
func Others(family xfrm.Family, have Tables) []Other {
	var list []Other
	for _, t := range have.Tables {
		for _, c := range t.Chains {
			if c.Policy == "-" {
				continue
			}
			last := -1
			for i, r := range c.Rules {
				if r.Jump() {
					last = i
				}
			}
			o := others{table: t, hook: c.Name, seen: make(map[string]bool)}
			for i, r := range c.Rules {
				o.before = i < last
				if r.Jump() {
					clear(o.seen)
					continue
				}
				o.rule(c.Name, r, true)
			}
			list = append(list, o.list...)
		}
		for _, c := range t.Chains {
			if c.Ours() {
				list = append(list, added(family, t, c)...)
			}
		}
	}
	return list
}

// others collects the rules that a builtin chain leads to.
type others struct {
	table  Table
	hook   string
	before bool
	seen   map[string]bool
	list   []Other
}

func (o *Other) at(hook string, before bool) {
	o.Hook, o.Before = hook, before
	o.Priority, _ = o.Table.Priority(hook)
	filter, _ := rules.Filter.Priority(hook)
	o.Late = o.Priority > filter
}

func (o *others) rule(chain string, r Rule, builtin bool) {
	if to, ok := o.table.Chain(r.Target); ok && to.Policy == "-" {
		if !o.seen[to.Name] && !to.Ours() {
			o.seen[to.Name] = true
			for _, r := range to.Rules {
				o.rule(to.Name, r, false)
			}
		}
		return
	}
	if other, ok := effect(o.table.Name, chain, r, builtin); ok {
		other.at(o.hook, o.before)
		o.list = append(o.list, other)
	}
}

// added are the rules in a chain of xfrmfw that are not as xfrmfw wrote them. Each hook of the
// table may lead there.
func added(family xfrm.Family, t Table, c Chain) []Other {
	var list []Other
	for _, r := range c.Rules {
		if rule, ok := readRule(r.Raw); ok {
			rule.Purpose, rule.Tunnel = r.Purpose, r.Tunnel
			if rules.ID(family, t.Name, c.Name, rule) == r.ID {
				continue
			}
		}
		other, ok := effect(t.Name, c.Name, r, true)
		if !ok {
			continue
		}
		for _, builtin := range t.Chains {
			if builtin.Policy != "-" {
				other.at(builtin.Name, true)
				list = append(list, other)
			}
		}
	}
	return list
}

// harmless are targets that neither end a packet's way nor change its mark or addresses.
var harmless = []string{
	"", "LOG", "NFLOG", "ULOG", "TRACE", "AUDIT", "TCPMSS", "TCPOPTSTRIP", "CLASSIFY", "DSCP", "TOS", "ECN", "TTL", "HL", "CHECKSUM",
	"SECMARK", "CONNSECMARK", "RATEEST", "IDLETIMER", "LED", "TEE",
}

// effect is the most that a rule may do, and false if it only drops packets or does nothing
// to them. Destinations that it rewrites are among the packets that a proof is about.
func effect(table rules.Table, chain string, r Rule, builtin bool) (Other, bool) {
	o := Other{Table: table, Text: fmt.Sprintf("-t %s -A %s %s", table, chain, r.Raw)}
	o.Matches, o.Read = readRule(strings.TrimSuffix(r.Raw, " --notrack"))
	o.Read = o.Read && !strings.ContainsAny(o.Matches.In+o.Matches.Out, "+") // eth+ is many interfaces
	switch r.Target {
	case "DROP", "REJECT", "DNAT", "REDIRECT":
		return o, false
	case "RETURN":
		o.Ends = builtin
	case "ACCEPT", "SYNPROXY":
		o.Ends = true
	case "QUEUE", "NFQUEUE": // another program decides
		o.Ends, o.Stops, o.Writes, o.Sets = true, true, ^uint32(0), ^uint32(0)
	case "SNAT", "MASQUERADE", "NETMAP":
		o.Rewrites = true
	case "NOTRACK":
		o.Untracks = true
	case "CT":
		o.Untracks = strings.Contains(r.Raw, "--notrack")
	case "MARK", "CONNMARK", "SET":
		value, mask, _ := written(r)
		o.Writes, o.Sets = value|mask, value // a value beyond the mask is a bit that changes
	default:
		if slices.Contains(harmless, r.Target) {
			return o, false
		}
		o.Ends, o.Writes, o.Sets, o.Rewrites = true, ^uint32(0), ^uint32(0), true
	}
	return o, o.Ends || o.Writes != 0 || o.Rewrites || o.Untracks
}
