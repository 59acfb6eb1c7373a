package program

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/prune"
)

// Companion lays out the part of the table that stands beside the iptables engine,
// where the host has nf_tables: iptables has no hook behind SNAT and none before the
// NAT chains of other programs. It is the base chains post and nat with all that they
// lead to, so a change of the engine is a change of one table.
func Companion(f *firewall.Facts) sets.Table {
	return prune.Reachable(Table(f, Options{}), "post", "nat")
}

// Exempts reports whether a live table keeps tunnel traffic from NAT of a later priority,
// which is that of all programs known.
func Exempts(t sets.Table) bool {
	_, ok := t.Chain("nat")
	return ok && t.Flags&sets.Dormant == 0
}
