package doctor

import (
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// sourceRouting lets a packet name the hops that it takes. The rules see the destination
// that it came with, which is this host, and the kernel sends it to the next one.
func sourceRouting(in Input) []Finding {
	if len(in.Set.Tunnels) == 0 {
		return nil
	}
	var found []Finding
	for _, v := range []struct {
		key, breaks string
		is          func(LinkSysctl) bool
	}{
		{"net.ipv4.conf.all.accept_source_route", "a stranger's packet names this host and then a host behind a tunnel: no rule for its first destination stops it", func(s LinkSysctl) bool { return s.SourceRoute }},
		{"net.ipv6.conf.all.seg6_enabled", "a stranger's packet names this host as a segment and then a host behind a tunnel, or carries another packet that this host unwraps", func(s LinkSysctl) bool { return s.Segments }},
	} {
		var names []string
		for _, l := range in.Snapshot.Host.Links {
			if l.Name != "lo" && v.is(in.Sysctl.Links[l.Name]) {
				names = append(names, l.Name)
			}
		}
		if len(names) > 0 {
			found = append(found, Finding{
				Severity: Warning, Seen: fmt.Sprintf("%s is set, and on %s too", v.key, text.FirstOf(names)),
				Breaks: v.breaks, Mend: []string{"sysctl -w " + v.key + "=0    # and in /etc/sysctl.d"},
			})
		}
	}
	return found
}

// flowtables pass packets of known flows from device to device at the ingress hook, which
// comes before all rules and before the kernel's own check.
func flowtables(in Input) []Finding {
	if len(in.Set.Tunnels) == 0 {
		return nil
	}
	var found []Finding
	for _, t := range in.NFT.Tables {
		for _, f := range t.Flowtables {
			if len(f.Devices) == 0 {
				continue
			}
			mend := []string{fmt.Sprintf("# let the rule with \"flow add @%s\" spare tunnels: rt ipsec missing, meta ipsec missing; and load the table anew", word(f.Name))}
			if t.Name == "fw4" {
				mend = []string{"uci set firewall.@defaults[0].flow_offloading=0; uci commit firewall; fw4 reload"}
			}
			found = append(found, Finding{
				Severity: Warning, Seen: fmt.Sprintf("nftables table %s %s has flowtable %s on %s", t.Family, t.Name, f.Name, text.FirstOf(f.Devices)),
				Breaks: "packets of an offloaded flow pass no rule: a forged packet with the addresses and ports of a tunnel's flow gets through",
				Mend:   mend,
			})
		}
	}
	return found
}

// bridged frames pass the rules of a router where br_netfilter calls these
// (br_nf_pre_routing, br_nf_forward_ip). Packets between the addresses of a guarded pair
// that a bridge only passes on are then dropped as cleartext that should have come out of
// the tunnel, by the iptables engine.
func bridged(in Input) []Finding {
	if in.tableDecides() { // it spares them
		return nil
	}
	var found []Finding
	for _, v := range []struct {
		family  xfrm.Family
		program string
		all     bool
		own     func(LinkSysctl) bool
	}{
		{xfrm.IPv4, "iptables", in.Sysctl.BridgeCall4, func(s LinkSysctl) bool { return s.BridgeCall4 }},
		{xfrm.IPv6, "ip6tables", in.Sysctl.BridgeCall6, func(s LinkSysctl) bool { return s.BridgeCall6 }},
	} {
		if !slices.ContainsFunc(in.Result.InForce(), func(g guard.Guard) bool { return !g.Exception && g.Family() == v.family }) {
			continue
		}
		var names, mend []string
		if v.all {
			mend = append(mend, fmt.Sprintf("sysctl -w net.bridge.bridge-nf-call-%s=0    # and in /etc/sysctl.d; leave it where Docker or Kubernetes filters on this host", v.program))
		}
		for _, l := range in.Snapshot.Host.Links {
			own := v.own(in.Sysctl.Links[l.Name])
			if l.Kind != "bridge" || !v.all && !own || in.ports(l) < 2 {
				continue
			}
			names = append(names, l.Name)
			if own {
				mend = append(mend, fmt.Sprintf("ip link set %s type bridge nf_call_%s 0", word(l.Name), v.program))
			}
		}
		if len(names) > 0 {
			found = append(found, Finding{
				Severity: Note, Seen: fmt.Sprintf("%s judges the frames of bridge %s (bridge-nf-call-%[1]s)", v.program, text.FirstOf(names)),
				Breaks: "packets between two sites of a tunnel that only cross the bridge are judged like routed ones, and dropped by the guards",
				Mend:   mend,
			})
		}
	}
	return found
}

// ports counts the ports of a bridge.
func (in Input) ports(bridge xfrm.Link) int {
	n := 0
	for _, l := range in.Snapshot.Host.Links {
		if l.Master == bridge.Index {
			n++
		}
	}
	return n
}

// anySource are tunnels out of which any address may reach this host: those of a VPN
// provider that gives it a virtual address.
func anySource(in Input) []Finding {
	var found []Finding
	seen := make(map[string]bool)
	for i := range in.Result.Claims {
		c := &in.Result.Claims[i]
		at := slices.IndexFunc(in.Set.Tunnels, func(t xfrm.Tunnel) bool { return t.ID == c.Tunnel })
		if seen[c.Tunnel] || at < 0 || in.Config.MarkOnly || c.Pair.Remote.Bits() > 1 || !c.Pair.Local.IsSingleIP() || c.Pair.IfID != 0 || c.Pair.Mark.Mask != 0 ||
			slices.ContainsFunc(in.Result.Restrictions, func(r firewall.Restriction) bool { return r.Tunnel == c.Tunnel && r.In != nil }) {
			continue
		}
		seen[c.Tunnel] = true
		found = append(found, Finding{
			Severity: Warning, Seen: fmt.Sprintf("tunnel %s takes packets from any address to %s", in.name(at), c.Pair.Local.Addr()),
			Breaks: "new connections to all services of this host are accepted out of it, from any source that the other end lets through",
			Mend:   []string{fmt.Sprintf("tunnels: [{match: {reqid: %d}, in: [icmp]}]    # in /etc/xfrmfw/xfrmfw.yaml; replies come in all the same; then: xfrmfw apply", c.In.Reqid)},
		})
	}
	return found
}
