// Package program lays facts out as the table of the nftables engine: rules that
// depend on pairs of prefix lengths, devices and the configuration alone, and for
// each tunnel elements of sets.
//
// The base chains, in the order in which a packet meets them:
//
//	pre       prerouting -160  behind conntrack and before all other rules: drops
//	                           packets that must never come in (cases 6, 6b, 7)
//	input_    input -5         behind other programs' mangle rules and right before
//	forward_  forward -5       filter: sets TAG on outer packets (input_) and VERIFIED
//	output_   output -5        on packets that pre let through, clears it from others
//	post      postrouting 290  behind all NAT: packets that leave in clear (case 8)
//	nat       postrouting -190 before all NAT: keeps it from packets into a tunnel
//
// The table accepts nothing, because an accept ends only its own base chain: it
// drops, and it marks packets that the host's own rules may accept.
//
// The cases of xfrmfw(7) by files:
//
//	decrypted.go   1 to 3, 7 and 7b: packets out of an SA
//	devices.go     4: sources on overlay devices; hooks.go has the rules of their packets, and 5
//	clear.go       6, 6b, 8 to 8d: packets in clear, with the exceptions
//	stranger.go    8e, and strangers of 6b
//	restrict.go, lockdown.go, mss.go   words of the configuration
//	relation.go, relations.go          the sets of pairs that these look up
//
// Companion (companion.go) is the part that stands beside the iptables engine. The package
// decides nothing and speaks to no kernel: package decide has decided, and package nftables
// commits the table.
package program

import (
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/prune"
)

// Name is the name of the table, and Decides that of a base chain which it has only as the
// engine of the verdicts, not as a companion.
const (
	Name    = "xfrmfw"
	Decides = "pre"
)

// Table lays out the facts. It is pure: equal facts give an equal table.
func Table(f *firewall.Facts, o Options) sets.Table {
	b := &builder{f: f, options: o, of: make(map[*family]*relations), table: sets.Table{Name: Name, Comment: "made by xfrmfw: all changes are undone"}}
	families := []*family{&ipv4, &ipv6}
	if f.NoIPv6 {
		families = families[:1]
	}
	b.drops()
	b.shared()
	for _, fam := range families {
		r := b.relations(fam)
		b.of[fam] = r
		b.decryptedPackets(fam, r)
		b.clearPackets(fam, r)
	}
	b.hooks(families)
	b.name()
	b.table.Sort()
	return prune.Table(b.table)
}

// name adds to the tunnel IDs in the comments of elements the configured names.
func (b *builder) name() {
	if len(b.f.Names) == 0 {
		return
	}
	for i := range b.table.Sets {
		elements := b.table.Sets[i].Elements
		for j := range elements {
			if name := b.f.Names[elements[j].Comment]; name != "" {
				elements[j].Comment += " " + name
			}
		}
	}
}

// TunnelOf returns the tunnel ID in the comment of an element, empty for none.
func TunnelOf(comment string) string {
	id, _, _ := strings.Cut(comment, " ")
	return id
}

// shared adds the sets that both families have in common.
func (b *builder) shared() {
	reqid := func(n uint32, tunnel string) sets.Element {
		return sets.Element{Key: sets.Key(sets.AppendUint(nil, n)), Comment: tunnel}
	}
	known := sets.Set{Name: "known", Comment: "case 7: reqids whose unverified packets are dropped", Opens: true}
	for _, k := range b.f.Known {
		known.Elements = append(known.Elements, reqid(k.Reqid, ""))
	}
	b.set(known, sets.InReqid)
	untaggable := sets.Set{Name: "untaggable", Comment: "case 2: packets come without TAG", Opens: true}
	for i := range b.f.Claims {
		if c := &b.f.Claims[i]; c.Untaggable || !c.Enforced {
			untaggable.Elements = append(untaggable.Elements, reqid(c.In.Reqid, c.Tunnel))
		}
	}
	if b.f.Enforce {
		b.set(untaggable, sets.InReqid)
	}
	if len(b.f.Bridges) > 0 {
		b.ownMACs()
	}
	b.set(sets.Set{Name: "untagged", Comment: "cases 2 and 3: packets without TAG", Dynamic: true, Counter: true, Size: 65535}, sets.InReqid)
	b.set(sets.Set{Name: "unknown", Comment: "case 7b: reqids of no tunnel", Dynamic: true, Counter: true, Size: 1024}, sets.InReqid)
}
