package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/limit"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// missingInterfaces are tunnels with policies of an if_id that no interface has.
func missingInterfaces(in Input) []Finding {
	names := make(map[uint32][]string)
	for i, t := range in.Set.Tunnels {
		for _, id := range ifIDs(t) {
			if !slices.ContainsFunc(in.Snapshot.Host.Links, func(l xfrm.Link) bool { return l.Kind == "xfrm" && l.IfID == id }) {
				names[id] = append(names[id], in.name(i))
			}
		}
	}
	var ids []uint32
	for id := range names {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var found []Finding
	for _, id := range ids {
		dev := "eth0"
		if up := in.uplinks(); len(up) > 0 {
			dev = word(up[0].Name)
		}
		found = append(found, Finding{
			Severity: Error, Seen: fmt.Sprintf("policies with if_id %d (tunnel %s), and no xfrm interface with it in this network", id, text.FirstOf(names[id])),
			Breaks: "no packet enters the tunnel, and packets out of it are dropped",
			Mend:   []string{fmt.Sprintf("ip link add ipsec%d type xfrm dev %s if_id %d && ip link set ipsec%d up", id, dev, id, id)},
		})
	}
	return found
}

func ifIDs(t xfrm.Tunnel) []uint32 {
	var ids []uint32
	for _, p := range t.Pairs {
		if p.IfID != 0 {
			ids = append(ids, p.IfID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// stateObject is how xfrm names a state that serves no tunnel.
const stateObject = "state "

// statesAlone finds SAs without a policy.
func statesAlone(in Input) []Finding {
	var lines []string
	for _, o := range in.Set.Ignored {
		if strings.HasPrefix(o.Object, stateObject) {
			lines = append(lines, o.Object+": "+o.Reason)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return []Finding{{
		Severity: Warning, Seen: fmt.Sprintf("%s without policies: %s", text.Count(len(lines), "SA"), text.FirstOf(lines)),
		Breaks: "packets out of them are dropped by the kernel (XfrmInNoPols) or not verified, and no packet goes in",
		Mend:   []string{"# install_policy = yes in the IKE daemon; a left-over: ip xfrm state delete src … dst … proto … spi …, or restart the connection"},
	}}
}

// policiesAlone are tunnels of which states are missing.
func policiesAlone(in Input) []Finding {
	var none, half []string
	for i, t := range in.Set.Tunnels {
		switch {
		case t.Up():
		case len(t.SAs) == 0:
			none = append(none, in.name(i))
		default:
			half = append(half, in.name(i))
		}
	}
	var found []Finding
	if len(half) > 0 {
		found = append(found, Finding{
			Severity: Warning, Seen: "policies with SAs in one direction only: tunnel " + text.FirstOf(half),
			Breaks: "traffic goes one way, and no answer comes",
			Mend:   []string{in.initiate() + "    # negotiates both anew; with strongSwan, after: swanctl --terminate --ike NAME"},
		})
	}
	if len(none) > 0 {
		found = append(found, Finding{
			Severity: Note, Seen: "policies without SAs: tunnel " + text.FirstOf(none),
			Breaks: "the tunnel is down, or a trap that waits for traffic; its traffic is held or dropped, never sent in clear",
			Mend:   []string{in.initiate()},
		})
	}
	return found
}

// oneFamily are networks that a tunnel protects in one family and that have the
// other one as well.
func oneFamily(in Input) []Finding {
	// The local selectors, each with the first tunnel that has it; full are those
	// of tunnels that take everything.
	type side struct {
		local  netip.Prefix
		tunnel int
		full   bool
	}
	var sides []side
	at := make(map[netip.Prefix]int)
	for i, t := range in.Set.Tunnels {
		if len(ifIDs(t)) > 0 || i < len(in.Result.Tunnels) && len(in.Result.Tunnels[i].Devices) > 0 {
			continue // routes decide
		}
		for _, p := range t.Pairs {
			if _, ok := at[p.Local]; !ok {
				at[p.Local] = len(sides)
				sides = append(sides, side{local: p.Local, tunnel: i})
			}
			if p.Remote.Bits() == 0 {
				sides[at[p.Local]].full = true
			}
		}
	}
	covered := func(n netip.Prefix) bool {
		return slices.ContainsFunc(sides, func(s side) bool { return s.local.Overlaps(n) })
	}
	var found []Finding
	done := make(map[string]bool)
	for _, s := range sides {
		for _, a := range in.Snapshot.Host.Addresses {
			if !a.Prefix.IsValid() || a.Prefix.Addr().IsLoopback() || !s.local.Contains(a.Prefix.Addr()) {
				continue
			}
			for _, other := range in.Snapshot.Host.Addresses {
				key := s.local.String() + other.Prefix.String()
				if other.Link != a.Link || !other.Prefix.IsValid() || other.Prefix.Addr().Is4() == a.Prefix.Addr().Is4() ||
					other.Prefix.Addr().IsLinkLocalUnicast() || done[key] || covered(other.Prefix.Masked()) {
					continue
				}
				done[key] = true
				l, _ := in.Snapshot.Host.Link(a.Link)
				network := other.Prefix.Masked()
				f := Finding{
					Severity: Note,
					Seen:     fmt.Sprintf("tunnel %s protects %s on %s; the network %s on it is in no tunnel's selectors", in.name(s.tunnel), s.local, l.Name, network),
					Breaks:   "a host there that finds an address of the other family for its peer goes past the tunnel, in clear",
					Mend:     []string{fmt.Sprintf("local_ts = %s,%s    # swanctl.conf, with the peer's other prefix in remote_ts", s.local, network)},
				}
				if s.full {
					f.Severity = Warning
					f.Breaks = "the tunnel takes everything of one family; the other one leaves in clear, past it"
				}
				found = append(found, f)
			}
		}
	}
	return found
}

// offload are tunnels that can't have the tag.
func offload(in Input) []Finding {
	reasons := make(map[string][]string)
	for i, t := range in.Result.Tunnels {
		if t.Evidence == firewall.PolicyOnly && i < len(in.Set.Tunnels) {
			reasons[t.Reason] = append(reasons[t.Reason], in.name(i))
		}
	}
	var found []Finding
	for reason, names := range reasons {
		f := Finding{
			Severity: Warning, Seen: fmt.Sprintf("tunnel %s: %s", text.FirstOf(names), reason),
			Breaks: "no rule can tag the outer packet: the tunnel's traffic is known by the policy match alone (policy-only)",
			Mend:   []string{fmt.Sprintf("set_mark_in = %#x/%#x    # swanctl.conf, in connections.NAME.children.NAME", in.Config.Marks.Tag, in.Config.Marks.Tag)},
		}
		if strings.Contains(reason, "_offload is loaded") {
			module, _, _ := strings.Cut(reason, " ")
			f.Mend = append(f.Mend, "# or, with the tunnels down and nothing that needs it: modprobe -r "+module)
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b Finding) int { return cmp.Compare(a.Seen, b.Seen) })
	return found
}

// ignored are objects for which there are no rules, states aside.
func ignored(in Input) []Finding {
	var found []Finding
	var lines []string
	for _, o := range slices.Concat(in.Set.Ignored, in.Result.Ignored) {
		if strings.HasPrefix(o.Object, "attribute ") {
			found = append(found, Finding{
				Severity: Warning, Seen: "the kernel says " + o.Object + ": " + o.Reason,
				Breaks: "rules are made without it, and may cover more or fewer packets than the kernel does",
				Mend:   []string{"# install a newer release of xfrmfw"},
			})
			continue
		}
		if !strings.HasPrefix(o.Object, stateObject) && !o.Usual() {
			lines = append(lines, o.Object+": "+o.Reason)
		}
	}
	if len(lines) == 0 {
		return found
	}
	return append(found, Finding{
		Severity: Warning, Seen: fmt.Sprintf("no rule is made for %s: %s", text.Count(len(lines), "object"), text.FirstOf(lines)),
		Breaks: "their packets are not verified, or not guarded, as each reason says; guards that status lists hold",
		Mend:   []string{"xfrmfw status --verbose    # lists them all, under ignored"},
	})
}

// limits are those that peers reached.
func limits(in Input) []Finding {
	var found []Finding
	for _, e := range in.Excess {
		found = append(found, Finding{
			Severity: Warning, Seen: fmt.Sprintf("%s: there are %d, and room for %d", e.Object, e.Count, e.Most),
			Breaks: e.Effect + "; earlier ones hold",
			Mend:   []string{"# " + e.Remedy},
		})
	}
	return found
}

// compilerWarnings are those that apply prints as well.
func compilerWarnings(in Input) []Finding {
	var found []Finding
	for _, n := range in.Notices {
		found = append(found, Finding{
			Severity: Warning, Seen: n, Breaks: "the rules in force are not those of the configuration file, or may not stay so",
			Mend: []string{"xfrmfw confirm    # while it waits, or: xfrmfw apply"},
		})
	}
	for _, w := range in.Result.Warnings {
		if slices.ContainsFunc(in.Excess, func(e limit.Excess) bool { return e.String() == w }) {
			continue
		}
		found = append(found, Finding{
			Severity: Warning, Seen: w, Breaks: "a rule is missing, or covers more or fewer packets than intended",
			Mend: []string{"# mend the named object, then: xfrmfw apply"},
		})
	}
	return found
}

// idle is the time after which a pair that was not seen is a finding, because its tunnel
// may have been given up.
const idle = 7 * 24 * time.Hour

// decommissioned are remembered pairs that have not been seen for long.
func decommissioned(in Input) []Finding {
	remember := cmp.Or(in.Config.Guard.Remember, guard.DefaultRemember)
	limit := min(int64(idle/time.Second), remember/2)
	var lines []string
	var first string
	for _, g := range in.Memory {
		last := g.Expires - remember
		if g.Exception || g.Expires == 0 || g.Expires <= in.now() || in.now()-last < limit {
			continue
		}
		if first == "" {
			first = g.Remote.String()
		}
		lines = append(lines, fmt.Sprintf("%s <-> %s, last seen %s, guarded until %s", g.Local, g.Remote, day(last), day(g.Expires)))
	}
	if len(lines) == 0 {
		return nil
	}
	return []Finding{{
		Severity: Warning, Seen: fmt.Sprintf("%s of a tunnel that has been gone for long: %s", text.Count(len(lines), "remembered pair"), text.FirstOf(lines)),
		Breaks: "if the tunnel was given up, these networks stay cut off from each other until then; if not, find out why it is down",
		Mend:   []string{"xfrmfw forget " + first + "    # if it was given up"},
	}}
}

func day(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.DateOnly) }

// hookNotWired finds an IKE daemon that calls no hook, on a host where no daemon of xfrmfw runs.
func hookNotWired(in Input) []Finding {
	if in.IKE == "" || in.Daemon || in.Hooked {
		return nil
	}
	return []Finding{{
		Severity: Note, Seen: in.IKE + " runs; xfrmfw daemon does not, and no configuration of the IKE daemon names xfrmfw",
		Breaks: "new connections and selectors get no rules until the next xfrmfw apply",
		Mend: []string{
			"systemctl enable --now xfrmfw.service    # the daemon",
			"# or, in swanctl.conf, in connections.NAME.children.NAME:",
			"updown = /usr/libexec/xfrmfw/updown",
		},
	}}
}
