package program

import (
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// mss lowers the segment size of TCP connections through tunnels, by a set of reqids
// for each size: of packets into a tunnel in post, where the route is final, and of
// those out of one in forward_. The kernel never raises it.
func (b *builder) mss(out bool) []sets.Rule {
	syn := sets.AnyBit(sets.TCPFlags, 2)
	var rules []sets.Rule
	for _, f := range []*family{&ipv4, &ipv6} {
		if b.of[f] == nil {
			continue
		}
		sizes := make(map[uint16]*sets.Set)
		var order []uint16
		for i := range b.f.Claims {
			c := &b.f.Claims[i]
			if c.MSS == 0 || !f.has(c.Pair.Remote.Addr()) {
				continue
			}
			s := sizes[c.MSS]
			if s == nil {
				s = &sets.Set{Name: fmt.Sprintf("mss%s_%d", f.suffix, c.MSS), Comment: "tunnels by segment size"}
				sizes[c.MSS] = s
				order = append(order, c.MSS)
			}
			s.Elements = append(s.Elements, sets.Element{Key: sets.Key(sets.AppendUint(nil, c.In.Reqid)), Comment: c.Tunnel})
		}
		slices.Sort(order)
		for _, size := range order {
			if out {
				b.set(*sizes[size], sets.InReqid)
			}
			k, condition := sets.InReqid, decrypted
			if out {
				k, condition = sets.OutReqid, encrypted
			}
			for depth := range uint8(2) {
				rules = append(rules, rule("MSS", f.is(), condition, syn,
					sets.In{Fields: []sets.Field{sets.F(k).At(depth)}, Set: sizes[size].Name}, sets.MaxSeg{Size: size}))
			}
		}
	}
	return rules
}
