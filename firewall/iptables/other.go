package iptables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Rival is the rules in the variant that is not in use. The kernel runs the
// rules of both.
type Rival struct {
	Variant Variant
	// Chains are chains of ours ("ipv4 mangle XFRMFW-PRE"): a former apply used
	// that variant, and clear has to be run there.
	Chains []string
	// Rules counts all rules; Marks are those that write the packet mark.
	Rules int
	Marks []string
	// Live are the rules, of the families with programs on this host.
	Live map[xfrm.Family]live.Tables
}

// Other reads the rules of the other variant. It returns none where its programs or its
// tables are missing.
func (p *Programs) Other(ctx context.Context) (Rival, error) {
	rival := Rival{Variant: p.variant.other(), Live: make(map[xfrm.Family]live.Tables)}
	for _, family := range p.Families() {
		if rival.Variant == Legacy && !legacyTables(family) {
			continue
		}
		var missing *NotFoundError
		found, err := p.find(ctx, family, rival.Variant)
		if errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return rival, err
		}
		save, err := p.saveWith(ctx, family, found.save)
		if err != nil {
			return rival, fmt.Errorf("look at the %s variant: %w", rival.Variant, err)
		}
		rival.Live[family] = save
		rival.add(family, save)
	}
	return rival, nil
}

// legacyTables reports whether the kernel has a table of the legacy variant. It
// lists them for iptables-save, which prints nothing else; this is cheaper than
// to ask that. Where the list can't be read the program is asked.
func legacyTables(family xfrm.Family) bool {
	list := "/proc/thread-self/net/ip_tables_names"
	if family == xfrm.IPv6 {
		list = "/proc/thread-self/net/ip6_tables_names"
	}
	names, err := os.ReadFile(list)
	return len(names) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

func (r *Rival) add(family xfrm.Family, save live.Tables) {
	for _, t := range save.Tables {
		for _, c := range t.Chains {
			where := fmt.Sprintf("%s %s %s", family, t.Name, c.Name)
			if c.Ours() {
				r.Chains = append(r.Chains, where)
			}
			r.Rules += len(c.Rules)
			for _, rule := range c.Rules {
				if rule.Target == "MARK" || rule.Target == "CONNMARK" && strings.Contains(rule.Raw, "--restore-mark") {
					r.Marks = append(r.Marks, where+" "+rule.Raw)
				}
			}
		}
	}
}

// JumpsStand reports whether each hook of the rule set has its jump as the first
// rule. It asks for the builtin chains alone, which on the nft variant costs a
// millisecond for a rule set of any size, so it fits an audit between two
// full ones. It has no context: go-iptables waits for the lock and no longer.
func (p *Programs) JumpsStand(rs rules.Ruleset) (bool, error) {
	program, ok := p.families[rs.Family]
	if !ok {
		return false, fmt.Errorf("list jumps (%s): no programs of this family", rs.Family)
	}
	probed, err := program.probed()
	if err != nil {
		return false, fmt.Errorf("list jumps (%s): %w", rs.Family, err)
	}
	for _, h := range rs.Hooks {
		lines, err := probed.List(string(h.Table), h.From)
		if err != nil {
			return false, fmt.Errorf("list jumps of %s %s (%s): %w", h.Table, h.From, rs.Family, err)
		}
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "-A ") })
		if i < 0 || !strings.Contains(lines[i], "xfrmfw:"+h.ID(rs.Family)+"/") {
			return false, nil
		}
	}
	return true, nil
}
