package prove

import (
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Describe says a packet in words.
func Describe(p firewall.Passage) string {
	words := []string{ends(p.Proto, p.Received)}
	add := func(holds bool, format string, args ...any) {
		if holds {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(p.Proto.IsICMP(), "type %d code %d", p.ICMPType, p.ICMPCode)
	add(p.Way != firewall.FromHost, "in by %s", interfaceWord(p.In))
	add(p.AfterDNAT != p.Received, "behind DNAT to %s", ends(p.Proto, p.AfterDNAT))
	add(p.Way == firewall.ToHost, "for this host")
	add(p.Way == firewall.FromHost, "from this host")
	add(p.Way != firewall.ToHost, "out by %s", interfaceWord(p.Out))
	for _, sa := range p.Path {
		words = append(words, "out of "+transform(sa))
	}
	for _, sa := range p.Ahead {
		words = append(words, "into "+transform(sa))
	}
	add(p.Tagged, "with TAG")
	add(p.Verified, "with VERIFIED")
	add(p.FailsRPFilter, "its source lives elsewhere")
	f := p.Flow
	state := "new flow"
	switch {
	case f.Related:
		state = "related to a flow"
	case f.Established:
		state = "established flow"
	}
	add(f.Reply, "a reply")
	add(true, "%s %s:%d -> %s:%d", state, f.OrigSrc, f.OrigSPort, f.OrigDst, f.OrigDPort)
	add(f.SNAT || f.DNAT || f.ReplySrc != f.OrigDst || f.ReplyDst != f.OrigSrc, "answered %s -> %s", f.ReplySrc, f.ReplyDst)
	return strings.Join(words, ", ")
}

func ends(proto xfrm.Proto, e firewall.Ends) string {
	if proto.HasPorts() {
		return fmt.Sprintf("%s %s:%d -> %s:%d", proto, e.Src, e.SPort, e.Dst, e.DPort)
	}
	return fmt.Sprintf("%s %s -> %s", proto, e.Src, e.Dst)
}

func interfaceWord(name string) string {
	if name == "" {
		return "any other interface"
	}
	return name
}

func transform(t xfrm.Transform) string {
	return fmt.Sprintf("an SA (%s, %s mode, reqid %d, %s -> %s)", t.Proto, t.Mode, t.Reqid, t.Src, t.Dst)
}
