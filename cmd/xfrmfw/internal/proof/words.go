package proof

import (
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
)

// Explain is the xfrmfw explain command for a packet. Its words say nothing of NAT, of
// SAs ahead and of the tuples of a flow.
func Explain(p firewall.Passage, m firewall.Marks) string {
	e := p.AfterDNAT
	words := []string{"xfrmfw explain"}
	add := func(holds bool, format string, args ...any) {
		if holds {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(p.Way != firewall.FromHost && p.In != "", "--in %s", p.In)
	add(p.Way != firewall.ToHost && p.Out != "", "--out %s", p.Out)
	add(true, "--src %s --dst %s --proto %s", e.Src, e.Dst, p.Proto)
	add(p.Proto.HasPorts(), "--sport %d --dport %d", e.SPort, e.DPort)
	add(p.Proto.IsICMP(), "--icmp-type %d/%d", p.ICMPType, p.ICMPCode)
	if len(p.Path) > 0 {
		add(true, "--reqid %d", p.Path[0].Reqid)
	}
	add(p.Tagged, "--tag")
	add(p.Verified, "--mark %#x", m.Verified)
	add(p.Flow.Related, "--ctstate related")
	add(p.Flow.Established && !p.Flow.Related, "--ctstate established")
	return strings.Join(words, " ")
}
