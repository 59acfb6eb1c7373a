package status

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// shared selects the rules without a tunnel that a state's packets pass.
type shared struct {
	// outer are those for encrypted packets, tags those that set TAG on them.
	outer map[outerKey][]string
	tags  map[xfrm.Family][]string
	// inner are those that accept the packets inside, nat those that exempt
	// them. Their keys have the tunnel device, or none.
	inner, nat map[innerKey][]string
	// guards are those that guard several tunnels' pairs, by their network.
	guards map[netip.Prefix][]guardRule
	// lengths are those of these networks.
	lengths map[int]bool
}

// guardRule is a guard's rule that names no tunnel, as it is for neighbours.
type guardRule struct {
	id string
	// ends are the networks that it names, local ones and remote.
	ends [4]netip.Prefix
}

// outerKey is the key of the rules for encrypted packets. Port and addr
// are this host's, zero for any.
type outerKey struct {
	family xfrm.Family
	in     bool
	proto  xfrm.Proto
	addr   netip.Addr
	port   uint16
}

type innerKey struct {
	family xfrm.Family
	in     bool
	device string
}

const (
	tagChain = rules.ChainPrefix + "TAG"
	outChain = rules.ChainPrefix + "OUT"
)

// indexShared looks at the compiled rules, because their fields are known, and keeps
// those that stand.
func indexShared(rulesets []rules.Ruleset, standing []Rule) shared {
	s := shared{
		outer: make(map[outerKey][]string), tags: make(map[xfrm.Family][]string),
		inner: make(map[innerKey][]string), nat: make(map[innerKey][]string), guards: make(map[netip.Prefix][]guardRule),
		lengths: make(map[int]bool),
	}
	ids := make(map[string]bool, len(standing))
	for _, r := range standing {
		ids[r.ID] = true
	}
	for _, rs := range rulesets {
		for _, c := range rs.Chains {
			for _, r := range c.Rules.All() {
				if r.Tunnel == "" {
					s.add(rs.Family, c, r, ids)
				}
			}
		}
	}
	return s
}

func (s shared) add(family xfrm.Family, c rules.Chain, r rules.Rule, standing map[string]bool) {
	id := func() []string {
		id := rules.ID(family, c.Table, c.Name, r)
		if !standing[id] {
			return nil
		}
		return []string{id}
	}
	switch r.Purpose {
	case rules.PurposeSpoofGuard, rules.PurposeInjectGuard, rules.PurposeLeakGuard:
		if rootOf(c.Name) == "MAPPED" {
			return // it is for where a source lives, not for a pair
		}
		for _, id := range id() {
			g := guardRule{id, [...]netip.Prefix{r.Src, r.Dst, r.Ct.OrigSrc, r.Ct.ReplSrc}}
			for _, end := range g.ends {
				if end.IsValid() && end.Bits() > 0 {
					s.guards[end] = append(s.guards[end], g)
					s.lengths[end.Bits()] = true
				}
			}
		}
	case rules.PurposeTag:
		s.tags[family] = append(s.tags[family], id()...)
	case rules.PurposeOpen, rules.PurposeDispatch:
		if r.Purpose == rules.PurposeDispatch && r.Target.Chain != tagChain {
			return
		}
		key := outerKey{family: family, in: c.Name != outChain, proto: r.Proto, addr: r.Dst.Addr(), port: r.DPorts.Lo}
		if !key.in {
			key.addr, key.port = r.Src.Addr(), r.SPorts.Lo
		}
		s.outer[key] = append(s.outer[key], id()...)
	case rules.PurposeAcceptIn:
		key := innerKey{family, true, r.In}
		s.inner[key] = append(s.inner[key], id()...)
	case rules.PurposeAcceptOut:
		key := innerKey{family, false, r.Out}
		s.inner[key] = append(s.inner[key], id()...)
	case rules.PurposeNAT:
		key := innerKey{family, false, r.Out}
		s.nat[key] = append(s.nat[key], id()...)
	}
}

// serving returns the IDs of the rules that serve a state: of the tunnel's own
// rules those for its direction, then the shared ones.
func (s shared) serving(own []Rule, t xfrm.Tunnel, sa xfrm.SA, devices []string) []string {
	ids := make([]string, 0, len(own)+8)
	untagged, keepsNAT := false, false
	want := servesOut
	if sa.Inbound {
		want = servesIn
	}
	for _, r := range own {
		if r.ID != "" && roleOf(r)&want != 0 {
			ids = append(ids, r.ID)
		}
		untagged = untagged || r.Purpose == rules.PurposeUntagged
		keepsNAT = keepsNAT || r.Purpose == rules.PurposeNATKeep
	}
	ids = s.appendOuter(ids, sa)
	if sa.Inbound && !untagged {
		ids = append(ids, s.tags[sa.Family]...)
	}
	for _, family := range families(t) {
		for _, device := range append([]string{""}, devices...) {
			key := innerKey{family, sa.Inbound, device}
			ids = append(ids, s.inner[key]...)
			if !keepsNAT {
				ids = append(ids, s.nat[key]...)
			}
		}
	}
	return distinct(ids)
}

// guarding returns the IDs of the rules that guard the tunnel's pairs and those of
// its neighbours.
func (s shared) guarding(t xfrm.Tunnel) []string {
	var ids []string
	if len(s.guards) == 0 {
		return nil
	}
	for _, p := range t.Pairs {
		for bits := p.Remote.Bits(); bits > 0; bits-- {
			if !s.lengths[bits] {
				continue
			}
			network := netip.PrefixFrom(p.Remote.Addr(), bits).Masked()
			for _, g := range s.guards[network] {
				of := func(end netip.Prefix) bool {
					return end.Bits() <= 0 || end == network || end == p.Local
				}
				if of(g.ends[0]) && of(g.ends[1]) && of(g.ends[2]) && of(g.ends[3]) {
					ids = append(ids, g.id)
				}
			}
		}
	}
	return distinct(ids)
}

// appendOuter appends the rules that the state's encrypted packets pass.
func (s shared) appendOuter(ids []string, sa xfrm.SA) []string {
	key := outerKey{family: sa.Family, in: sa.Inbound, proto: sa.Proto}
	local := sa.Src
	if sa.Encap.Type != 0 {
		key.proto, key.port = xfrm.UDP, sa.Encap.SPort
	}
	if sa.Encap.Type == espInTCP {
		key.proto = xfrm.TCP
	}
	if sa.Inbound {
		local = sa.Dst
		if sa.Encap.Type != 0 {
			key.port = sa.Encap.DPort
		}
	}
	ids = append(ids, s.outer[key]...)
	key.addr = local
	return append(ids, s.outer[key]...)
}

// role is the purpose of a tunnel's own rule.
type role uint8

// A rule serves inbound states, outbound ones or both, or it serves none and
// guards the tunnel's pairs against packets outside of it.
const (
	guards    role = 0
	servesIn  role = 1
	servesOut role = 2
)

// roleOf returns a rule's role by its purpose, or by its tree of chains where several
// roles share the purpose.
func roleOf(r Rule) role {
	switch r.Purpose {
	case rules.PurposeAcceptIn, rules.PurposeVerified, rules.PurposePolicyOnly, rules.PurposeUnconfirmed, rules.PurposeRelated, rules.PurposeIPComp, rules.PurposeOverlay:
		return servesIn
	case rules.PurposeAcceptOut, rules.PurposeStranger, rules.PurposeNAT, rules.PurposeNATKeep:
		return servesOut
	case rules.PurposeSpoof, rules.PurposeInject, rules.PurposeCrossed, rules.PurposeLeak,
		rules.PurposeSpoofGuard, rules.PurposeInjectGuard, rules.PurposeLeakGuard,
		rules.PurposeReject, rules.PurposePierce, rules.PurposeLAN:
		return guards
	}
	tree, part, _ := strings.Cut(strings.TrimPrefix(r.Chain, rules.ChainPrefix), "-")
	switch tree {
	case "PRE", "IN", "TAG", "POL", "SEL", "CARRIED", "CARRIER", "ASTRAY", "STRAY", "UNCONFIRMED",
		"RELATED", "RELTO", "RELRE", "OWNER", "FOREIGN", "RIN", "BARE":
		return servesIn
	case "OUT", "POST", "ROUT", "NAT":
		return servesOut
	case "FWD":
		if strings.Contains(" "+r.Rule, " -o ") {
			return servesOut
		}
		return servesIn
	case "MSS", "SVC":
		// MSS-IN and MSS-OUT; SVC-I for in:, SVC-O for out: and SVC-C for remote:.
		if strings.HasPrefix(part, "I") {
			return servesIn
		}
		return servesOut
	}
	return guards
}

// rootOf is the word by which all chains of one tree are called.
func rootOf(chain string) string {
	word, _, _ := strings.Cut(strings.TrimPrefix(chain, rules.ChainPrefix), "-")
	return word
}

// families are those of the traffic inside a tunnel.
func families(t xfrm.Tunnel) []xfrm.Family {
	var found []xfrm.Family
	for _, p := range t.Pairs {
		if f := p.Family(); !slices.Contains(found, f) {
			found = append(found, f)
		}
	}
	slices.Sort(found)
	return found
}

// distinct drops repetitions and keeps the order.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	return slices.DeleteFunc(ids, func(id string) bool {
		again := seen[id]
		seen[id] = true
		return again
	})
}
