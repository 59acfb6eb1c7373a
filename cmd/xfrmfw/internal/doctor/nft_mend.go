package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/foreign"
)

// mendNFT are the lines that let the packets pass, in the words of the program that keeps the
// table.
func (in Input) mendNFT(t foreign.Table, c foreign.Chain, lines []string, hit []probe) []string {
	switch t.Name {
	case "firewalld":
		return mendFirewalld(t, c, lines, hit)
	case "fw4":
		mend := []string{fmt.Sprintf("# OpenWrt: into /usr/share/nftables.d/chain-pre/%s/xfrmfw.nft, then: fw4 reload", word(c.Name))}
		return append(mend, lines...)
	case "foomuuri":
		return mendFoomuuri(c, lines)
	case "docker-bridges":
		if c.Hook == "forward" && !slices.ContainsFunc(hit, func(p probe) bool { return p.into }) {
			return []string{
				fmt.Sprintf(`# Docker 29, in /etc/docker/daemon.json: "bridge-accept-fwmark": "%#x/%#[1]x"`, in.verified()),
				"systemctl restart docker    # it writes its table anew at each start",
			}
		}
	}
	var mend []string
	for _, l := range slices.Backward(lines) {
		mend = append(mend, fmt.Sprintf("nft 'insert rule %s %s %s %s'", t.Family, word(t.Name), word(c.Name), l))
	}
	return append(mend, "# and the same lines first in that chain where the table is loaded from (/etc/nftables.conf, usually)")
}

// mendFirewalld are policies by address: firewalld has no match for a mark. The
// guards drop cleartext with these addresses before firewalld sees it.
func mendFirewalld(t foreign.Table, c foreign.Chain, lines []string, hit []probe) []string {
	policy, egress := "xfrmfw", "ANY"
	if c.Hook == "input" {
		policy, egress = "xfrmfw-in", "HOST"
	}
	var mend []string
	if !slices.ContainsFunc(t.Chains, func(c foreign.Chain) bool { return strings.HasSuffix(c.Name, "_policy_"+policy) }) {
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
		if p.into {
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
func mendFoomuuri(c foreign.Chain, lines []string) []string {
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

// probe is a packet that xfrmfw lets pass, and the match that another firewall needs to
// let it pass too.
type probe struct {
	packet foreign.Packet
	// what is its name in a sentence. into is true if the packet goes into a tunnel.
	what string
	into bool
	// line is in nftables' words, for the packet on its hook.
	line string
	// pair is the one that the packet belongs to, invalid for IKE and ESP.
	local, remote netip.Prefix
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
