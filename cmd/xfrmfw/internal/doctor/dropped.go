package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// dropMeaning is the meaning of a counter of dropped packets, the cause that is usually
// behind it, and the remedy.
type dropMeaning struct {
	drop   rules.Purpose
	guards rules.Purpose
	counts string
	cause  string
	mend   string
}

func (in Input) dropMeanings() []dropMeaning {
	return []dropMeaning{
		{rules.PurposeSpoof, rules.PurposeSpoofGuard, "packets in clear from a tunnel's remote network (case 6)",
			"the peer lets its traffic out in clear, another way leads to that network now, or an attacker forges its addresses",
			"xfrmfw forget REMOTE    # if the tunnel was given up; else: " + in.initiate()},
		{rules.PurposeInject, rules.PurposeInjectGuard, "packets with addresses of a local network that came in by another interface (case 6b)",
			"the LAN has a second way to this host, or a stranger uses its addresses",
			"guard: {asymmetric: [INTERFACE]}    # in /etc/xfrmfw/xfrmfw.yaml, if these are the LAN's; then: xfrmfw apply"},
		{rules.PurposeCrossed, "", "packets out of a tunnel that are not in its selectors (case 7)",
			"remote: in the configuration is narrower than the peer's networks, two peers have one address, or a peer forges",
			"xfrmfw explain --reqid N --src ADDRESS --dst ADDRESS    # tells the tunnel that owns the source"},
		{rules.PurposeLeak, rules.PurposeLeakGuard, "packets to a tunnel's remote network that would have left in clear (case 8)",
			"the tunnel is down, NAT takes the packets out of its selectors, or a route leads past its device",
			in.initiate() + "; or, if it was given up: xfrmfw forget REMOTE"},
		{rules.PurposeUnconfirmed, "", "decrypted packets without TAG under cross_check: enforce (case 3)",
			"something decrypts ESP before the rules see it, or clears the mark",
			"cross_check: observe    # in /etc/xfrmfw/xfrmfw.yaml, until the cause is found; then: xfrmfw apply"},
	}
}

// ruleKey is the place of a live rule.
type ruleKey struct {
	family xfrm.Family
	table  rules.Table
	chain  string
	id     string
}

// eachRule calls f for each rule of ours.
func eachRule(tables map[xfrm.Family]live.Tables, f func(k ruleKey, r *live.Rule)) {
	for _, family := range slices.Sorted(maps.Keys(tables)) {
		for _, t := range tables[family].Tables {
			for _, c := range t.Chains {
				for i := range c.Rules {
					if r := &c.Rules[i]; c.Ours() && r.ID != "" {
						f(ruleKey{family, t.Name, c.Name, r.ID}, r)
					}
				}
			}
		}
	}
}

// dropped are the rules of ours that drop packets while doctor looks, with the guards
// that lead to them.
func dropped(in Input) []Finding {
	before := make(map[ruleKey]uint64)
	eachRule(in.Live, func(k ruleKey, r *live.Rule) { before[k] += r.Packets })
	grown := make(map[rules.Purpose]uint64)
	guards := make(map[rules.Purpose][]string)
	eachRule(in.Later, func(k ruleKey, r *live.Rule) {
		was, ok := before[k]
		if !ok || r.Packets <= was {
			return
		}
		switch {
		case r.Target == "DROP":
			grown[r.Purpose] += r.Packets - was
		// In mangle the packets of a leak's guard may be on their way into the tunnel.
		case r.Purpose == rules.PurposeSpoofGuard, r.Purpose == rules.PurposeInjectGuard, r.Purpose == rules.PurposeLeakGuard && k.table == rules.Filter:
			guards[r.Purpose] = append(guards[r.Purpose], in.guardOf(r))
		case r.Purpose == rules.PurposeReject && r.Target == "REJECT":
			grown[rules.PurposeLeak] += r.Packets - was
		}
	})
	for p, n := range in.TableDrops[1] {
		if was := in.TableDrops[0][p]; n > was {
			grown[p] += n - was
		}
	}
	var found []Finding
	for _, m := range in.dropMeanings() {
		if grown[m.drop] == 0 {
			continue
		}
		seen := fmt.Sprintf("xfrmfw dropped %d %s within %s", grown[m.drop], m.counts, in.Apart.Round(time.Second/10))
		if by := unique(guards[m.guards]); len(by) > 0 {
			seen += ", by the guard of " + text.FirstOf(by)
		}
		found = append(found, Finding{Severity: Warning, Seen: seen, Breaks: "these packets are lost; likely: " + m.cause, Mend: []string{m.mend}})
	}
	return found
}

// guardOf names the tunnel and the networks of a guard's rule.
func (in Input) guardOf(r *live.Rule) string {
	name := r.Tunnel
	if i := slices.IndexFunc(in.Set.Tunnels, func(t xfrm.Tunnel) bool { return t.ID == r.Tunnel }); i >= 0 {
		name = in.name(i)
	}
	words := strings.Fields(r.Raw)
	for i, w := range words[:max(0, len(words)-1)] {
		switch w {
		case "-s":
			name += " from " + words[i+1]
		case "-d":
			name += " to " + words[i+1]
		}
	}
	return strings.TrimSpace("tunnel " + name)
}

// initiate is the command by which the IKE daemon that runs brings a connection up.
func (in Input) initiate() string {
	switch in.IKE {
	case "pluto":
		return "ipsec auto --up NAME"
	case "iked":
		return "ikectl reload"
	case "racoon":
		return "racoonctl establish-sa isakmp inet LOCAL REMOTE"
	}
	if in.Stroke {
		return "ipsec up NAME"
	}
	return "swanctl --initiate --child NAME"
}
