package proof

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// most is how many tunnels a host may have for a comparison of all packets, which takes
// some seconds then.
const most = 300

// Changes returns the changes for packets between two subjects of one host, as apply
// --dry-run --diff prints them. Devices are the host's interfaces.
func Changes(f *firewall.Facts, devices []string, before, after Subject) string {
	if len(f.Tunnels) > most {
		return fmt.Sprintf("packets: not compared, because the host has %d tunnels, and a comparison takes too long with more than %d; xfrmfw explain shows one packet, and xfrmfw prove checks the properties of the wanted rules for all\n\n", len(f.Tunnels), most)
	}
	var b strings.Builder
	for _, family := range after.families(f) {
		changes, err := prove.Changes(before.layout(family), after.layout(family), family, f, devices)
		if err != nil {
			return fmt.Sprintf("packets: not compared: %v\n\n", err)
		}
		for _, c := range changes {
			writeChange(&b, c, f.Marks)
		}
	}
	if b.Len() == 0 {
		return "packets: no verdict changes\n\n"
	}
	return "packets\n" + b.String() + "\n"
}

func (s Subject) families(f *firewall.Facts) []xfrm.Family {
	if s.Rules == nil && !f.NoIPv6 {
		return []xfrm.Family{xfrm.IPv4, xfrm.IPv6}
	}
	var list []xfrm.Family
	for _, rs := range s.Rules {
		list = append(list, rs.Family)
	}
	if s.Rules == nil {
		list = append(list, xfrm.IPv4)
	}
	return list
}

func (s Subject) layout(family xfrm.Family) evaluate.Layout {
	l := evaluate.Layout{Table: s.Table}
	for i := range s.Rules {
		if s.Rules[i].Family == family {
			l.Rules = &s.Rules[i]
		}
	}
	return l
}

func writeChange(b *strings.Builder, c prove.Change, m firewall.Marks) {
	fmt.Fprintf(b, "  %-17s  ", c.Turn)
	switch {
	case c.Path == prove.OnAny:
		b.WriteString("only ICMP errors, replies or packets with marks")
	case !c.Src.IsValid():
		b.WriteString("all, " + string(c.Path))
	default:
		fmt.Fprintf(b, "%s -> %s", network(c.Src, c.SrcBut), network(c.Dst, c.DstBut))
		for i, s := range c.Services {
			b.WriteString([]string{" ", ", "}[min(i, 1)] + service(s))
		}
		fmt.Fprintf(b, ", %s", c.Path)
	}
	for i, way := range c.Ways {
		word := [...]string{"to this host", "forwarded", "from this host"}[way]
		b.WriteString([]string{", ", " or "}[min(i, 1)] + word)
	}
	if c.More {
		b.WriteString(", and more")
	}
	fmt.Fprintf(b, "\n    such as  %s\n    see      %s\n", prove.Describe(c.Packet), Explain(c.Packet, m))
}

// network is a prefix but for others, of which the first are told.
func network(p netip.Prefix, but []netip.Prefix) string {
	if len(but) == 0 {
		return p.String()
	}
	list := make([]string, len(but))
	for i, b := range but {
		list[i] = b.String()
	}
	return fmt.Sprintf("%s but for %s", p, text.FirstOf(list))
}

// service is a service in the words of the configuration.
func service(s firewall.Service) string {
	switch {
	case s.Ports == firewall.Ports{}:
		return s.Proto.String()
	case s.Ports.Lo == s.Ports.Hi:
		return fmt.Sprintf("%s/%d", s.Proto, s.Ports.Lo)
	}
	return fmt.Sprintf("%s/%d-%d", s.Proto, s.Ports.Lo, s.Ports.Hi)
}
