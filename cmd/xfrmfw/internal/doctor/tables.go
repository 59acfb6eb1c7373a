package doctor

import (
	"fmt"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// mostPairs bounds how many tunnels, and pairs of selectors, are sent through
// foreign chains: where there are more, they are alike.
const mostPairs = 200

// manglePriority is where our rules have given the mark (NF_IP_PRI_MANGLE).
const manglePriority = -150

// nftDrops are base chains of others that drop packets we accept. A packet needs
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
			var fate foreign.Fate
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
			breaks := "xfrmfw accepts it, but an accept in iptables does not bind another table's chain"
			if in.tableDecides() {
				breaks = "xfrmfw marks it as verified, but an accept binds only its own base chain"
			}
			found = append(found, Finding{
				Severity: Error, Seen: fmt.Sprintf("%s drops %s", where(t, c, fate), text.FirstOf(unique(what))),
				Breaks: breaks,
				Mend:   in.mendNFT(t, c, unique(lines), hit),
			})
		}
	}
	return found
}

// where names the base chain, and the rule in it that decides.
func where(t foreign.Table, c foreign.Chain, f foreign.Fate) string {
	base := fmt.Sprintf("nftables table %s %s, chain %s (hook %s)", t.Family, t.Name, c.Name, c.Hook)
	switch {
	case f.Handle == 0:
		return base + ": the policy"
	case f.By != c.Name:
		return fmt.Sprintf("%s: rule %d of chain %s", base, f.Handle, f.By)
	}
	return fmt.Sprintf("%s: rule %d", base, f.Handle)
}

// probes are the packets that pass a base chain of that hook.
func (in Input) probes(c foreign.Chain) []probe {
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
func (in Input) inner(c foreign.Chain, i int, t xfrm.Tunnel, pair xfrm.Pair) []probe {
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
		what: "packets out of tunnel " + name, line: fmt.Sprintf("meta mark & %#x == %#x accept", in.verified(), in.verified()),
		local: pair.Local, remote: pair.Remote,
		packet: foreign.Packet{
			Src: remote, Dst: local, Six: local.Is6(), In: device, Out: lan, FromIPsec: !hasDevice,
			Mark: in.verified(), Known: ^in.Config.Marks.Tag, Proto: uint8(pair.Proto),
		},
	}
	into := probe{
		into: true, what: "packets into tunnel " + name, line: "rt ipsec exists accept",
		local: pair.Local, remote: pair.Remote,
		packet: foreign.Packet{
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
		from.packet.Proto, into.packet.Proto = 0, 0 // their ports are not known here
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
func (in Input) outer(c foreign.Chain, local, remote netip.Addr) []probe {
	six := local.Is6()
	device := ""
	if l, ok := in.linkTo(remote); ok && remote.IsValid() {
		device = l.Name
	}
	esp := foreign.Packet{Six: six, Proto: uint8(xfrm.ESP), Known: ^uint32(0)}
	var packets []foreign.Packet
	const espLine = "meta l4proto { esp, ah } accept"
	ikeLine := "udp dport { 500, 4500 } accept"
	switch c.Hook {
	case "prerouting", "input":
		esp.Src, esp.Dst, esp.In, esp.NoOut = remote, local, device, true
		ike, natT := esp, esp
		ike.Proto, ike.DPort = udp, 500
		natT.Proto, natT.DPort = udp, 4500
		packets = []foreign.Packet{ike, natT}
	case "output", "postrouting":
		esp.Src, esp.Dst, esp.Out, esp.NoIn = local, remote, device, c.Hook == "output"
		ike, natT := esp, esp
		ike.Proto, ike.SPort, ike.DPort = udp, 500, 500
		natT.Proto, natT.SPort, natT.DPort = udp, 4500, 4500
		ikeLine = "udp sport { 500, 4500 } accept"
		packets = []foreign.Packet{ike, natT}
	default:
		return nil
	}
	probes := []probe{{packet: esp, what: "ESP", line: espLine}}
	for _, p := range packets {
		probes = append(probes, probe{packet: p, what: "IKE", line: ikeLine})
	}
	return probes
}
