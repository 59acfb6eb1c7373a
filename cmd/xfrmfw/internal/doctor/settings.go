package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// forwarding is switched off although tunnels serve more than this host.
func forwarding(in Input) []Finding {
	var found []Finding
	for _, v := range []struct {
		family xfrm.Family
		on     bool
		key    string
	}{{xfrm.IPv4, in.Sysctl.Forward4, "net.ipv4.ip_forward"}, {xfrm.IPv6, in.Sysctl.Forward6, "net.ipv6.conf.all.forwarding"}} {
		if v.on {
			continue
		}
		var names []string
		for i, t := range in.Set.Tunnels {
			if slices.ContainsFunc(t.Pairs, func(p xfrm.Pair) bool {
				return p.Family() == v.family && p.Has(xfrm.Fwd) && p.Local.Bits() > 0 && !p.Local.IsSingleIP()
			}) {
				names = append(names, in.name(i))
			}
		}
		if len(names) > 0 {
			found = append(found, Finding{
				Severity: Warning, Seen: fmt.Sprintf("%s = 0, and these tunnels serve a network: %s", v.key, text.FirstOf(names)),
				Breaks: "this host takes the tunnels' traffic for itself only; no packet is forwarded to or from the network behind it",
				Mend:   []string{fmt.Sprintf("sysctl -w %s=1    # and in /etc/sysctl.d", v.key)},
			})
		}
	}
	return found
}

// disablePolicy switches the kernel's own check off on an interface that is no
// tunnel device: it is advice for VTIs, often given to "all".
func disablePolicy(in Input) []Finding {
	var found []Finding
	for _, l := range in.Snapshot.Host.Links {
		s := in.Sysctl.Links[l.Name]
		if l.Name == "lo" || slices.Contains([]string{"vti", "vti6", "xfrm"}, l.Kind) || len(in.Set.Tunnels) == 0 {
			continue
		}
		for _, v := range []struct {
			set    bool
			family string
		}{{s.NoPolicy, "ipv4"}, {s.NoPolicy6, "ipv6"}} {
			if !v.set {
				continue
			}
			found = append(found, Finding{
				Severity: Warning, Seen: fmt.Sprintf("disable_policy is set on %s (%s)", l.Name, v.family),
				Breaks: "the kernel no longer refuses cleartext that should have come out of a tunnel; only the guards of xfrmfw do",
				Mend: []string{
					fmt.Sprintf("sysctl -w net.%s.conf.all.disable_policy=0 net.%s.conf.%s.disable_policy=0", v.family, v.family, word(l.Name)),
					"# a VTI needs it on its own device only",
				},
			})
		}
	}
	return found
}

// disableXfrm keeps packets that leave by an interface out of all tunnels.
func disableXfrm(in Input) []Finding {
	var found []Finding
	for _, l := range in.uplinks() {
		if in.Sysctl.Links[l.Name].NoXfrm {
			found = append(found, Finding{
				Severity: Error, Seen: "disable_xfrm is set on " + l.Name + ", which leads to a peer",
				Breaks: "packets that leave there are not encrypted: the tunnels' traffic is dropped as a leak",
				Mend:   []string{fmt.Sprintf("sysctl -w net.ipv4.conf.all.disable_xfrm=0 net.ipv4.conf.%s.disable_xfrm=0", word(l.Name))},
			})
		}
	}
	return found
}

// reversePath is strict where the routes lead another way. Packets out of a
// state are exempt (fib_validate_source), but not those out of a VTI, a GRE
// tunnel and the like, and not ESP itself.
func reversePath(in Input) []Finding {
	var found []Finding
	drops := func(link, mode, why, instead string) {
		found = append(found, Finding{
			Severity: Warning, Seen: fmt.Sprintf("rp_filter is %s on %s, %s", mode, link, why),
			Breaks: "the kernel drops these packets silently (TcpExtIPReversePathFilter in nstat)",
			Mend:   []string{fmt.Sprintf("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.%s.rp_filter=%s", word(link), instead)},
		})
	}
	seen := make(map[string]bool)
	for i, t := range in.Set.Tunnels {
		if t.Local.Is4() && t.Remote.Is4() {
			here, ok := in.linkOf(t.Local)
			there, ok2 := in.linkTo(t.Remote)
			if ok && ok2 && here.Index != there.Index && in.Sysctl.Links[here.Name].ReversePath == 1 && !seen[here.Name] {
				seen[here.Name] = true
				drops(here.Name, "strict (1)", fmt.Sprintf("which has %s, while the route to the peer %s leads by %s", t.Local, t.Remote, there.Name), "2    # loose")
			}
		}
		if i >= len(in.Result.Tunnels) {
			continue
		}
		for _, name := range in.Result.Tunnels[i].Devices {
			at := slices.IndexFunc(in.Snapshot.Host.Links, func(l xfrm.Link) bool { return l.Name == name })
			if at < 0 || seen[name] || in.Sysctl.Links[name].ReversePath == 0 || in.Snapshot.Host.Links[at].Kind == "xfrm" {
				continue
			}
			index := in.Snapshot.Host.Links[at].Index
			if in.routed(index) {
				continue
			}
			// Loose is as strict on a device without an address (no_addr in __fib_validate_source).
			mode, instead := "strict (1)", "2    # loose"
			if !in.numbered(index) {
				instead = "0    # it has no address of IPv4: loose (2) would drop them too"
				if in.Sysctl.Links[name].ReversePath == 2 {
					mode = "loose (2)"
				}
			} else if in.Sysctl.Links[name].ReversePath == 2 {
				continue
			}
			seen[name] = true
			drops(name, mode, "the device of tunnel "+in.name(i)+", and no route leads into it without a mark", instead)
		}
	}
	return found
}

// routed reports whether more than the device's own network lies behind it for a lookup without a mark, as the filter's
// (fib_validate_source, but for src_valid_mark), in IPv4, which alone has that filter. Which rule leads to another table is
// not known here, but that some look at the mark is.
func (in Input) routed(index int32) bool {
	unmarked := []uint32{0, 220, 253, 254} // the tables main, default and strongSwan's; 0 is not said
	return slices.ContainsFunc(in.Snapshot.Host.Routes, func(r xfrm.Route) bool {
		return r.Link == index && r.Dst.Addr().Is4() && !r.Dst.IsSingleIP() && !r.Dst.Addr().IsLinkLocalUnicast() && !r.Dst.Addr().IsMulticast() &&
			(slices.Contains(unmarked, r.Table) || len(in.Snapshot.Host.Rules) == 0)
	})
}

// numbered reports whether an interface has an address of IPv4.
func (in Input) numbered(index int32) bool {
	return slices.ContainsFunc(in.Snapshot.Host.Addresses, func(a xfrm.Address) bool { return a.Link == index && a.Prefix.Addr().Is4() })
}

// redirects tell hosts of a network to go round the gateway, where they and the
// peer are reached by one interface.
func redirects(in Input) []Finding {
	var found []Finding
	for _, l := range in.uplinks() {
		if !in.Sysctl.Links[l.Name].SendRedirects {
			continue
		}
		var networks []string
		for _, t := range in.Set.Tunnels {
			for _, p := range t.Pairs {
				if p.Family() == xfrm.IPv4 && p.Local.Bits() > 0 && !p.Local.IsSingleIP() && in.behind(p.Local, l.Index) {
					networks = append(networks, p.Local.String())
				}
			}
		}
		slices.Sort(networks)
		if networks = slices.Compact(networks); len(networks) > 0 {
			found = append(found, Finding{
				Severity: Warning, Seen: fmt.Sprintf("send_redirects is set on %s, by which both the peer and %s are reached", l.Name, text.FirstOf(networks)),
				Breaks: "the kernel tells the hosts there to send the tunnel's traffic to the next router themselves: it then goes in clear, past this host",
				Mend:   []string{fmt.Sprintf("sysctl -w net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.%s.send_redirects=0", word(l.Name))},
			})
		}
	}
	return found
}

// behind reports whether a network is reached by an interface.
func (in Input) behind(network netip.Prefix, index int32) bool {
	l, ok := in.linkTo(network.Addr())
	return ok && l.Index == index
}

// missingModules are those that the rules need and that the kernel hasn't got.
func missingModules(in Input) []Finding {
	if len(in.Modules) == 0 {
		return nil
	}
	var mend []string
	// Since Linux 6.17 the tables of iptables-legacy are an option that is off by default (NETFILTER_XTABLES_LEGACY), so
	// no package has them.
	missing := slices.DeleteFunc(slices.Clone(in.Modules), legacyTable)
	if len(missing) < len(in.Modules) {
		mend = append(mend, "# this kernel is built without the tables of iptables-legacy: let iptables be iptables-nft, or give xfrmfw --variant nft")
	}
	if len(missing) > 0 {
		if command := in.Distribution.moduleCommand(missing); command != "" {
			mend = append(mend, command)
		}
		mend = append(mend, "# or install the modules of the running kernel "+in.Distribution.Kernel+" from where it came, or reboot into the kernel that is installed")
	}
	f := Finding{
		Severity: Error, Seen: "the kernel has no " + strings.Join(in.Modules, ", ") + ": neither loaded, built in nor installed",
		Breaks: "iptables refuses the rules that need them, and apply fails",
		Mend:   mend,
	}
	if !slices.ContainsFunc(in.Modules, func(m string) bool { return !dispensable(m) }) {
		f.Severity, f.Breaks = Warning, "the rules that need them are left out, and the others are in force: xfrmfw apply names the traffic that is not protected"
	}
	return []Finding{f}
}

// dispensable reports whether a module has a feature that rules can do without.
func dispensable(module string) bool {
	for _, f := range rules.AllFeatures.All() {
		for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
			if strings.HasPrefix(f.Extension(family).Module, module) {
				return true
			}
		}
	}
	return false
}

// legacyTable reports whether a module is a table of iptables-legacy.
func legacyTable(module string) bool { return strings.HasPrefix(module, "iptable_") }

// missingCapabilities are rights that the process lacks.
func missingCapabilities(in Input) []Finding {
	if len(in.Capabilities) == 0 {
		return nil
	}
	return []Finding{{
		Severity: Error, Seen: "this process lacks " + strings.Join(in.Capabilities, ", "),
		Breaks: "it cannot read SAs and policies, or cannot write rules",
		Mend:   []string{"# run it as root; in a unit: CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW; in a container: --cap-add NET_ADMIN --cap-add NET_RAW"},
	}}
}
