package doctor

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// exemptPriority is that of the exemption in our table.
const exemptPriority = -190

// nftNAT are base chains that rewrite packets into a tunnel. Our exemption in
// iptables does not bind them: of several nat chains the first decides that gives
// the flow a source, be it its own (nf_nat_inet_fn). The one in our table is first.
func nftNAT(in Input) []Finding {
	if in.tableDecides() {
		return nil
	}
	type place struct{ table, chain int }
	var places []place
	for i, t := range in.NFT.Tables {
		for j, c := range t.Chains {
			if c.Type == "nat" && c.Hook == "postrouting" && (!in.Exempt || c.Priority < exemptPriority) {
				places = append(places, place{i, j})
			}
		}
	}
	at := func(p place) (foreign.Table, foreign.Chain) {
		t := in.NFT.Tables[p.table]
		return t, t.Chains[p.chain]
	}
	slices.SortStableFunc(places, func(a, b place) int {
		_, x := at(a)
		_, y := at(b)
		return cmp.Compare(x.Priority, y.Priority)
	})
	what := make(map[place][]string)
	fates := make(map[place]foreign.Fate)
	keep := in.keepNAT()
	for i, tunnel := range in.Set.Tunnels[:min(len(in.Set.Tunnels), mostPairs)] {
		if i < len(in.Result.Tunnels) && len(in.Result.Tunnels[i].Devices) > 0 || keep[tunnel.ID] {
			continue
		}
		for _, pair := range tunnel.Pairs {
			for _, p := range in.inner(foreign.Chain{Hook: "postrouting"}, i, tunnel, pair) {
				for _, where := range places {
					t, c := at(where)
					f := t.Walk(c, p.packet)
					if f.Rewritten {
						what[where], fates[where] = append(what[where], p.what), f
					}
					if f.Rewritten || f.Kept {
						break
					}
				}
			}
		}
	}
	var found []Finding
	for _, p := range places {
		if len(what[p]) == 0 {
			continue
		}
		t, c := at(p)
		found = append(found, Finding{
			Severity: Error, Seen: fmt.Sprintf("%s rewrites %s", where(t, c, fates[p]), text.FirstOf(unique(what[p]))),
			Breaks: "these packets no longer fit their policy: they are dropped as a leak, or leave in clear",
			Mend:   mendNAT(t, c),
		})
	}
	return found
}

// keepNAT are the tunnels with NAT that the configuration leaves to others.
func (in Input) keepNAT() map[string]bool {
	keep := make(map[string]bool)
	for _, rs := range in.Result.Rulesets {
		for _, c := range rs.Chains {
			if c.Table != rules.NAT {
				continue
			}
			for _, r := range c.Rules.All() {
				if r.Purpose == rules.PurposeNATKeep {
					keep[r.Tunnel] = true
				}
			}
		}
	}
	return keep
}

// mendNAT is a rule that spares tunnel traffic, or, where the table is written
// anew at each reload, a table by itself that gives the flow its own source
// before that chain can give it another.
func mendNAT(t foreign.Table, c foreign.Chain) []string {
	if t.Name != "firewalld" && t.Name != "fw4" {
		return []string{fmt.Sprintf("nft 'insert rule %s %s %s rt ipsec exists accept'", t.Family, word(t.Name), word(c.Name))}
	}
	return []string{
		fmt.Sprintf("nft 'table ip xfrmfw-nat { chain post { type nat hook postrouting priority %d; rt ipsec exists snat to ip saddr; }; }'", c.Priority-1),
		"# and the same in a file that nft loads at boot",
	}
}
