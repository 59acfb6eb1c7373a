// Package program lays facts out as the table of the nftables engine: rules that
// depend on pairs of prefix lengths, devices and the configuration alone, and for
// each tunnel elements of sets.
//
// The base chains, in the order in which a packet meets them:
//
//	pre       prerouting -160  behind conntrack and before all other rules: drops
//	                           what must never come in (cases 6, 6b, 7)
//	input_    input -5         behind other programs' mangle rules and right before
//	forward_  forward -5       filter: sets TAG on outer packets (input_) and VERIFIED
//	output_   output -5        on what pre let through, clears it from all else
//	post      postrouting 290  behind all NAT: what leaves in clear (case 8)
//	nat       postrouting -190 before all NAT: keeps it from what goes into a tunnel
//
// The table accepts nothing, because an accept ends only its own base chain: it
// drops, and it marks what the host's own rules may accept.
package program

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// Name is the name of the table.
const Name = "xfrmfw"

// Host is what rules need to know of the host beyond the facts.
type Host struct {
	// Bridges are bridges of the host. Frames that they only pass on are not judged.
	Bridges []Bridge
}

// Bridge is a bridge and the address by which frames are for the host itself.
type Bridge struct {
	Name string
	MAC  [6]byte
}

// Table lays out the facts. It is pure: equal facts give an equal table.
func Table(f *firewall.Facts, h Host) sets.Table {
	b := &builder{f: f, host: h, of: make(map[*family]*relations), table: sets.Table{Name: Name, Comment: "made by xfrmfw: all changes are undone"}}
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
	b.table.Sort()
	return b.table
}

type builder struct {
	f     *firewall.Facts
	host  Host
	table sets.Table
	of    map[*family]*relations
}

func (b *builder) chain(name, comment string, rules ...sets.Rule) {
	b.table.Chains = append(b.table.Chains, sets.Chain{Name: name, Comment: comment, Rules: rules})
}

func (b *builder) base(name, comment string, base sets.Base, rules ...sets.Rule) {
	b.table.Chains = append(b.table.Chains, sets.Chain{Name: name, Comment: comment, Base: base, Rules: rules})
}

// set adds a set with elements in any order.
func (b *builder) set(s sets.Set, kinds ...sets.FieldKind) {
	for _, k := range kinds {
		s.Key = append(s.Key, sets.F(k))
	}
	slices.SortFunc(s.Elements, sets.Element.Compare)
	s.Elements = slices.CompactFunc(s.Elements, func(x, y sets.Element) bool { return x.Compare(y) == 0 })
	b.table.Sets = append(b.table.Sets, s)
}

func (b *builder) tag() uint32      { return b.f.Marks.Tag }
func (b *builder) verified() uint32 { return b.f.Marks.Verified }

func (b *builder) setBits(bits uint32) sets.Term   { return sets.SetMark{Value: bits, Mask: bits} }
func (b *builder) clearBits(bits uint32) sets.Term { return sets.SetMark{Mask: bits} }

// isVerified and isTagged match packets with the bit.
func (b *builder) isVerified() sets.Term { return sets.AllBits(sets.Mark, uint64(b.verified())) }
func (b *builder) unverified() sets.Term { return sets.NoBit(sets.Mark, uint64(b.verified())) }
func (b *builder) isTagged() sets.Term   { return sets.AllBits(sets.Mark, uint64(b.tag())) }

// shared adds the sets that both families have in common.
func (b *builder) shared() {
	reqid := func(n uint32, tunnel string) sets.Element {
		return sets.Element{Key: sets.Key(sets.AppendUint(nil, n)), Comment: tunnel}
	}
	known := sets.Set{Name: "known", Comment: "case 7: reqids of which all packets are told", Opens: true}
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
	b.set(sets.Set{Name: "untagged", Comment: "cases 2 and 3: packets without TAG", Dynamic: true, Counter: true, Size: 65535}, sets.InReqid)
	b.set(sets.Set{Name: "unknown", Comment: "case 7b: reqids of no tunnel", Dynamic: true, Counter: true, Size: 1024}, sets.InReqid)
}
