package status

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/firewall/sets/purpose"
)

// tableRow is a rule or an element of the table of nftables with its owner.
type tableRow struct {
	owner string
	rule  Rule
}

// withTable adds the table of nftables: its elements, each with the tunnel that its
// comment names, and the rules that count.
func (r Rules) withTable(t sets.Table, f *firewall.Facts, terse bool) Rules {
	if t.Name == "" {
		return r
	}
	rows := tableRows(t, f, terse)
	owners := make([]string, len(r.all))
	for owner, span := range r.owners {
		for i := span.from; i < span.to; i++ {
			owners[i] = owner
		}
	}
	order := make([]int, len(r.all))
	for i, place := range r.places {
		order[place] = i
	}
	return collect(func(yield func(string, Rule) bool) {
		for _, i := range order {
			if !yield(owners[i], r.all[i]) {
				return
			}
		}
		for i := range rows {
			if !yield(rows[i].owner, rows[i].rule) {
				return
			}
		}
	}, func(r Rule) Rule { return r })
}

// tableRows are the rows of a table: sets first, then chains, both by name.
func tableRows(t sets.Table, f *firewall.Facts, terse bool) []tableRow {
	untagged := untaggedPackets(t)
	elements := 0
	for i := range t.Sets {
		elements += len(t.Sets[i].Elements)
	}
	rows := make([]tableRow, 0, elements)
	for i := range t.Sets {
		s := &t.Sets[i]
		purpose := setPurpose(s.Name)
		claims := purpose == rules.PurposeVerified || strings.HasPrefix(s.Name, "bare")
		family := familyOf(s)
		for _, e := range s.Elements {
			row := tableRow{program.TunnelOf(e.Comment), Rule{Family: family, Table: rules.Table(t.Name), Chain: s.Name, Purpose: purpose, Packets: e.Count.Packets, Bytes: e.Count.Bytes}}
			row.rule.ID = elementID(s.Name, e)
			switch {
			case s.Name == "unknown":
				row.owner, row.rule.Kind = "", NotedUnknown
			case s.Name == "overlaid":
				row.owner, row.rule.Kind = overlayOf(f.Overlays, e.Key), KindOverlay
			case purpose == rules.PurposeOverlay: // by source: the comment names the tunnel
				row.rule.Kind = KindOverlay
			case s.Name == "untagged":
				claim := claimOf(f.Claims, reqidOf(e.Key))
				row.rule.Purpose, row.rule.Kind = rules.PurposePolicyOnly, KindPolicyOnly
				if claim != nil && !claim.Untaggable {
					row.rule.Purpose, row.rule.Kind = rules.PurposeUnconfirmed, KindUnconfirmed
				}
				if claim != nil {
					row.owner = claim.Tunnel
				}
			case claims:
				// The element counts cases 1 to 3; those without TAG are counted by reqid besides.
				reqid := reqidOf(e.Key)
				without := min(untagged[reqid], row.rule.Packets)
				untagged[reqid] -= without
				row.rule.Packets -= without
				row.rule.Kind = KindVerified
			}
			if !terse {
				row.rule.Rule = e.Text(*s)
			}
			rows = append(rows, row)
		}
	}
	for _, c := range t.Chains {
		for i := range c.Rules {
			r := &c.Rules[i]
			if !slices.Contains(r.Terms, sets.Term(sets.Counter{})) {
				continue
			}
			row := tableRow{rule: Rule{Table: rules.Table(t.Name), Chain: c.Name, Packets: r.Count.Packets, Bytes: r.Count.Bytes}}
			row.rule.Purpose, row.rule.Kind = rules.PurposeDispatch, ""
			if p, ok := purpose.OfChain(c.Name); ok {
				row.rule.Purpose, row.rule.Kind = p, countedAs(p, true)
			}
			row.rule.ID = ruleID(c.Name, r)
			if !terse {
				row.rule.Rule = r.String()
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// setPurpose is the purpose of the elements of a set, also of one that an older version
// made.
func setPurpose(set string) rules.Purpose {
	p, ok := purpose.OfSet(set)
	if !ok {
		return rules.PurposeExempt
	}
	return p
}

// untaggedPackets are the packets without TAG by reqid.
func untaggedPackets(t sets.Table) map[uint32]uint64 {
	counts := make(map[uint32]uint64)
	s, _ := t.Set("untagged")
	for _, e := range s.Elements {
		counts[reqidOf(e.Key)] += e.Count.Packets
	}
	return counts
}

func reqidOf(k sets.Key) uint32 {
	if len(k) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32([]byte(k[:4]))
}

// overlayOf is the tunnel that an overlay device belongs to, of which the table knows no
// sources. The packets of one that several tunnels share are among the shared.
func overlayOf(overlays []firewall.Overlay, k sets.Key) string {
	device, _, _ := strings.Cut(string(k), "\x00")
	tunnel := ""
	for i := range overlays {
		switch o := &overlays[i]; {
		case !slices.Contains(o.Devices, device):
		case tunnel != "" && tunnel != o.Tunnel:
			return ""
		default:
			tunnel = o.Tunnel
		}
	}
	return tunnel
}

func claimOf(claims []firewall.Claim, reqid uint32) *firewall.Claim {
	for i := range claims {
		if claims[i].In.Reqid == reqid {
			return &claims[i]
		}
	}
	return nil
}

// familyOf is the family of a set's addresses, empty for none.
func familyOf(s *sets.Set) string {
	for _, f := range s.Key {
		switch f.Type() {
		case sets.TypeIPv4:
			return "ipv4"
		case sets.TypeIPv6:
			return "ipv6"
		}
	}
	return ""
}

func elementID(set string, e sets.Element) string { return hashID(set, string(e.Key), string(e.Last)) }

func ruleID(chain string, r *sets.Rule) string { return hashID(chain, r.String()) }

// hashID is an ID as the rules of iptables have.
func hashID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return base64.RawURLEncoding.EncodeToString(sum[:rules.IDLen/4*3])
}
