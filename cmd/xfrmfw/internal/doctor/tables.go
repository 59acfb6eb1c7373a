package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor/nft"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// mostPairs bounds how many tunnels, and pairs of selectors, are sent through
// foreign chains: where there are more, they are alike.
const mostPairs = 200

// manglePriority is where our rules have given the mark (NF_IP_PRI_MANGLE).
const manglePriority = -150

// probe is a packet that xfrmfw lets pass, and what another firewall needs to
// let it pass too.
type probe struct {
	packet nft.Packet
	// what it is, for a sentence.
	what string
	// line is in nftables' words, for the packet on its hook.
	line string
	// pair is the one that the packet belongs to, invalid for IKE and ESP.
	local, remote netip.Prefix
}

// nftDrops are base chains of others that drop what we accept. A packet needs
// the accept of every base chain of a hook.
func nftDrops(in Input) []Finding {
	var found []Finding
	for _, t := range in.NFT.Tables {
		for _, c := range t.Chains {
			if c.Type != "filter" && c.Type != "route" {
				continue
			}
			var lines, what []string
			var hit []probe
			var fate nft.Fate
			for _, p := range in.probes(c) {
				if f := t.Walk(c, p.packet); f.Dropped {
					fate = f
					hit = append(hit, p)
					lines, what = append(lines, p.line), append(what, p.what)
				}
			}
			if len(hit) == 0 {
				continue
			}
			found = append(found, Finding{
				Severity: Error, Seen: fmt.Sprintf("%s drops %s", where(t, c, fate), text.FirstOf(unique(what))),
				Breaks: "xfrmfw accepts it, but an accept in iptables does not bind another table's chain",
				Mend:   in.mendNFT(t, c, unique(lines), hit),
			})
		}
	}
	return found
}

// where names the base chain, and what in it decides.
func where(t nft.Table, c nft.Chain, f nft.Fate) string {
	base := fmt.Sprintf("nftables table %s %s, chain %s (hook %s)", t.Family, t.Name, c.Name, c.Hook)
	switch {
	case f.Handle == 0:
		return base + ": the policy"
	case f.By != c.Name:
		return fmt.Sprintf("%s: rule %d of chain %s", base, f.Handle, f.By)
	}
	return fmt.Sprintf("%s: rule %d", base, f.Handle)
}

// unique keeps the first of each.
func unique(all []string) []string {
	var kept []string
	for _, s := range all {
		if !slices.Contains(kept, s) {
			kept = append(kept, s)
		}
	}
	return kept
}

// probes are the packets that pass a base chain of that hook.
func (in Input) probes(c nft.Chain) []probe {
	var all []probe
	pairs := 0
	for i, t := range in.Set.Tunnels[:min(len(in.Set.Tunnels), mostPairs)] {
		for _, pair := range t.Pairs {
			if pairs++; pairs > mostPairs {
				break
			}
			all = append(all, in.inner(c, i, t, pair)...)
		}
		if t.Local.IsValid() && t.Remote.IsValid() {
			all = append(all, in.outer(c, t.Local, t.Remote)...)
		}
	}
	if len(in.Set.Tunnels) == 0 {
		all = in.outer(c, netip.Addr{}, netip.Addr{})
	}
	return all
}

// inner are a tunnel's own packets on a hook.
func (in Input) inner(c nft.Chain, i int, t xfrm.Tunnel, pair xfrm.Pair) []probe {
	local, remote := pair.Local.Addr(), pair.Remote.Addr()
	own := false
	for _, a := range in.Snapshot.Host.Addresses {
		if pair.Local.Contains(a.Prefix.Addr()) && pair.Local.Bits() > 0 {
			own = true
			if c.Hook == "input" || c.Hook == "output" {
				local = a.Prefix.Addr()
			}
		}
	}
	device := ""
	if i < len(in.Result.Tunnels) && len(in.Result.Tunnels[i].Devices) > 0 {
		device = in.Result.Tunnels[i].Devices[0]
	} else if l, ok := in.linkTo(t.Remote); ok && t.Remote.IsValid() {
		device = l.Name
	}
	lan := ""
	if l, ok := in.linkTo(local); ok && pair.Local.Bits() > 0 {
		lan = l.Name
	}
	name := in.name(i)
	hasDevice := i < len(in.Result.Tunnels) && len(in.Result.Tunnels[i].Devices) > 0

	from := probe{
		what: "what comes out of tunnel " + name, line: fmt.Sprintf("meta mark & %#x == %#x accept", in.verified(), in.verified()),
		local: pair.Local, remote: pair.Remote,
		packet: nft.Packet{
			Src: remote, Dst: local, Six: local.Is6(), In: device, Out: lan, FromIPsec: !hasDevice,
			Mark: in.verified(), Known: ^in.Config.Marks.Tag, Proto: uint8(pair.Proto),
		},
	}
	into := probe{
		what: "what goes into tunnel " + name, line: "rt ipsec exists accept",
		local: pair.Local, remote: pair.Remote,
		packet: nft.Packet{
			Src: local, Dst: remote, Six: local.Is6(), In: lan, Out: device, ToIPsec: !hasDevice,
			Known: ^uint32(0), Proto: uint8(pair.Proto),
		},
	}
	if hasDevice {
		into.line = fmt.Sprintf("oifname %q accept", word(device))
	}
	if pair.Local.Bits() == 0 {
		from.packet.Dst, into.packet.Src = netip.Addr{}, netip.Addr{}
	}
	if pair.Remote.Bits() == 0 {
		from.packet.Src, into.packet.Dst = netip.Addr{}, netip.Addr{}
	}
	if from.packet.Proto == udp {
		from.packet.Proto, into.packet.Proto = 0, 0 // whose ports are not known here
	}
	forwarded := !own || pair.Local.Bits() < pair.Local.Addr().BitLen()
	switch c.Hook {
	case "prerouting":
		from.packet.NoOut = true
		if c.Priority <= manglePriority {
			from.packet.Mark, from.line = 0, "meta ipsec exists accept"
		}
		return []probe{from}
	case "input":
		from.packet.NoOut = true
		if own && pair.Has(xfrm.In) {
			return []probe{from}
		}
	case "forward":
		if forwarded && pair.Has(xfrm.Fwd) {
			return []probe{from, into}
		}
		if forwarded && pair.Has(xfrm.Out) {
			return []probe{into}
		}
	case "output":
		into.packet.NoIn, into.packet.In = true, ""
		if own && pair.Has(xfrm.Out) {
			return []probe{into}
		}
	case "postrouting":
		if pair.Has(xfrm.Out) {
			return []probe{into}
		}
	}
	return nil
}

const udp = 17

// outer are IKE and ESP between this host and a peer.
func (in Input) outer(c nft.Chain, local, remote netip.Addr) []probe {
	six := local.Is6()
	device := ""
	if l, ok := in.linkTo(remote); ok && remote.IsValid() {
		device = l.Name
	}
	esp := nft.Packet{Six: six, Proto: uint8(xfrm.ESP), Known: ^uint32(0)}
	var packets []nft.Packet
	const espLine = "meta l4proto { esp, ah } accept"
	ikeLine := "udp dport { 500, 4500 } accept"
	switch c.Hook {
	case "prerouting", "input":
		esp.Src, esp.Dst, esp.In, esp.NoOut = remote, local, device, true
		ike, natT := esp, esp
		ike.Proto, ike.DPort = udp, 500
		natT.Proto, natT.DPort = udp, 4500
		packets = []nft.Packet{ike, natT}
	case "output", "postrouting":
		esp.Src, esp.Dst, esp.Out, esp.NoIn = local, remote, device, c.Hook == "output"
		ike, natT := esp, esp
		ike.Proto, ike.SPort, ike.DPort = udp, 500, 500
		natT.Proto, natT.SPort, natT.DPort = udp, 4500, 4500
		ikeLine = "udp sport { 500, 4500 } accept"
		packets = []nft.Packet{ike, natT}
	default:
		return nil
	}
	probes := []probe{{packet: esp, what: "ESP", line: espLine}}
	for _, p := range packets {
		probes = append(probes, probe{packet: p, what: "IKE", line: ikeLine})
	}
	return probes
}

// mendNFT are the lines that let the packets pass, in the words of who keeps the
// table.
func (in Input) mendNFT(t nft.Table, c nft.Chain, lines []string, hit []probe) []string {
	switch t.Name {
	case "firewalld":
		return mendFirewalld(t, c, lines, hit)
	case "fw4":
		mend := []string{fmt.Sprintf("# OpenWrt: into /usr/share/nftables.d/chain-pre/%s/xfrmfw.nft, then: fw4 reload", word(c.Name))}
		return append(mend, lines...)
	case "foomuuri":
		return mendFoomuuri(c, lines)
	}
	var mend []string
	for _, l := range slices.Backward(lines) {
		mend = append(mend, fmt.Sprintf("nft 'insert rule %s %s %s %s'", t.Family, word(t.Name), word(c.Name), l))
	}
	return append(mend, "# and the same lines first in that chain where the table is loaded from (/etc/nftables.conf, usually)")
}

// mendFirewalld are policies by address: firewalld has no match for a mark. The
// guards drop cleartext with these addresses before firewalld sees it.
func mendFirewalld(t nft.Table, c nft.Chain, lines []string, hit []probe) []string {
	policy, egress := "xfrmfw", "ANY"
	if c.Hook == "input" {
		policy, egress = "xfrmfw-in", "HOST"
	}
	var mend []string
	if !slices.ContainsFunc(t.Chains, func(c nft.Chain) bool { return strings.HasSuffix(c.Name, "_policy_"+policy) }) {
		mend = []string{
			"firewall-cmd --permanent --new-policy=" + policy,
			fmt.Sprintf("firewall-cmd --permanent --policy=%s --add-ingress-zone=ANY", policy),
			fmt.Sprintf("firewall-cmd --permanent --policy=%s --add-egress-zone=%s", policy, egress),
		}
	}
	if slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "esp") || strings.Contains(l, "udp") }) {
		mend = append(mend, fmt.Sprintf("firewall-cmd --permanent --policy=%s --add-service=ipsec", policy))
	}
	for _, p := range hit {
		if !p.remote.IsValid() {
			continue
		}
		src, dst := p.remote, p.local
		if strings.HasPrefix(p.what, "what goes into") {
			src, dst = p.local, p.remote
		}
		family := "ipv4"
		if src.Addr().Is6() {
			family = "ipv6"
		}
		rule := fmt.Sprintf(`rule family="%s" source address="%s" destination address="%s" accept`, family, src, dst)
		mend = append(mend, fmt.Sprintf("firewall-cmd --permanent --policy=%s --add-rich-rule='%s'", policy, rule))
	}
	return append(unique(mend), "firewall-cmd --reload && xfrmfw apply")
}

// mendFoomuuri puts the lines in foomuuri's words.
func mendFoomuuri(c nft.Chain, lines []string) []string {
	section := map[string]string{"input": "any-localhost", "output": "localhost-any"}[c.Hook]
	if section == "" {
		section = "any-any"
	}
	mend := []string{"# into a file below /etc/foomuuri, then: foomuuri reload", section + " {"}
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, "meta mark & "):
			l = "mark_match " + strings.Replace(strings.TrimSuffix(strings.TrimPrefix(l, "meta mark & "), " accept"), " == ", "/", 1)
		case strings.HasPrefix(l, "rt ipsec"):
			l = "dipsec"
		case strings.HasPrefix(l, "meta l4proto"):
			l = "protocol esp ah"
		case strings.HasPrefix(l, "udp dport"):
			l = "udp 500 4500"
		case strings.HasPrefix(l, "udp sport"):
			l = "udp sport 500 4500"
		}
		mend = append(mend, "  "+strings.TrimSuffix(l, " accept"))
	}
	return append(mend, "}")
}

// nftNAT are base chains that rewrite what goes into a tunnel. Our exemption in
// iptables does not bind them: of several nat chains the first decides that gives
// the flow a source, be it its own (nf_nat_inet_fn).
func nftNAT(in Input) []Finding {
	type place struct{ table, chain int }
	var places []place
	for i, t := range in.NFT.Tables {
		for j, c := range t.Chains {
			if c.Type == "nat" && c.Hook == "postrouting" {
				places = append(places, place{i, j})
			}
		}
	}
	at := func(p place) (nft.Table, nft.Chain) {
		t := in.NFT.Tables[p.table]
		return t, t.Chains[p.chain]
	}
	slices.SortStableFunc(places, func(a, b place) int {
		_, x := at(a)
		_, y := at(b)
		return cmp.Compare(x.Priority, y.Priority)
	})
	what := make(map[place][]string)
	fates := make(map[place]nft.Fate)
	keep := in.keepNAT()
	for i, tunnel := range in.Set.Tunnels[:min(len(in.Set.Tunnels), mostPairs)] {
		if i < len(in.Result.Tunnels) && len(in.Result.Tunnels[i].Devices) > 0 || keep[tunnel.ID] {
			continue
		}
		for _, pair := range tunnel.Pairs {
			for _, p := range in.inner(nft.Chain{Hook: "postrouting"}, i, tunnel, pair) {
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
			Breaks: "it no longer fits its policy: it is dropped as a leak, or leaves in clear",
			Mend:   mendNAT(t, c),
		})
	}
	return found
}

// keepNAT are the tunnels whose NAT the configuration leaves to others.
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
func mendNAT(t nft.Table, c nft.Chain) []string {
	if t.Name != "firewalld" && t.Name != "fw4" {
		return []string{fmt.Sprintf("nft 'insert rule %s %s %s rt ipsec exists accept'", t.Family, word(t.Name), word(c.Name))}
	}
	return []string{
		fmt.Sprintf("nft 'table ip xfrmfw-nat { chain post { type nat hook postrouting priority %d; rt ipsec exists snat to ip saddr; }; }'", c.Priority-1),
		"# and the same in a file that nft loads at boot",
	}
}

// nftMarks are statements in tables of others that write our bits.
func nftMarks(in Input) []Finding {
	var found []Finding
	both := in.Config.Marks.Both()
	for _, t := range in.NFT.Tables {
		for _, m := range t.Marks() {
			if m.Writes&both == 0 {
				continue
			}
			f := Finding{
				Severity: Warning, Seen: fmt.Sprintf("nftables table %s %s, chain %s: rule %d writes our bits %#x of the mark", t.Family, t.Name, m.Chain, m.Handle, m.Writes&both),
				Breaks: "it clears them: what it meets after our rules is no longer known as verified to other firewalls",
				Mend:   []string{fmt.Sprintf("# let it write its own bits only: meta mark set meta mark & %#x | VALUE", both)},
			}
			if m.Sets&both != 0 {
				f.Severity = Error
				f.Breaks = "it can set them on what came out of no tunnel; xfrmfw clears them again where the kernel knows of no state, but not behind this rule"
			}
			found = append(found, f)
		}
	}
	return found
}
