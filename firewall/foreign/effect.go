package foreign

import "slices"

// Effect is the most that a base chain may do to packets, besides dropping them. Destinations
// that NAT gives are left out.
type Effect struct {
	// Writes are the bits of the mark that it may change, Sets those that it may set.
	Writes, Sets uint32
	// Ends is true if packets may pass by the chains behind it at its hook, which an accept of
	// the chain does not let them.
	Ends bool
	// Rewrites is true if it may give a flow another source, Remakes if it may write other
	// addresses, ports or protocols into packets, without NAT.
	Rewrites, Remakes bool
	// Offloads is true if it may add flows of tunnels to a flowtable.
	Offloads bool
	// Untracks is true if it may keep errors of ICMP from conntrack, so that they are of no flow,
	// Forwards if it may send packets out by a device at once.
	Untracks, Forwards bool
}

// Effect returns the effect of a base chain, and of those that it leads to, on packets of a family.
func (t Table) Effect(base Chain, six bool) Effect {
	var e Effect
	if t.Family == "ip" && six || t.Family == "ip6" && !six {
		return e
	}
	icmp := map[bool]uint8{false: 1, true: 58}[six]
	for _, p := range []Packet{{}, {FromIPsec: true}, {ToIPsec: true}, {FromIPsec: true, ToIPsec: true}, {Proto: icmp}, {Proto: icmp, FromIPsec: true}} {
		p.Six = six
		w := walker{table: t, packet: p, anyFlow: true}
		w.effect(&e, base, make(map[string]bool))
	}
	return e
}

// effect adds that of a chain, and of those that it leads to. A rule stands for all packets
// that it may match.
func (w *walker) effect(to *Effect, c Chain, seen map[string]bool) {
	if seen[c.Name] {
		return
	}
	seen[c.Name] = true
	for _, r := range c.Rules {
		for _, e := range r.expr {
			kind, v := only(e)
			if kind == "match" && w.match(v) == no {
				break
			}
			w.statement(to, kind, v)
			for _, name := range w.targets(e, w.table.sets) {
				if next, ok := w.table.chain(name); ok {
					w.effect(to, next, seen)
				}
			}
		}
	}
}

// harmless are the statements that neither change a packet, its mark and its source nor send it elsewhere.
var harmless = []string{
	"match", "vmap", "counter", "limit", "quota", "log", "last", "set", "map", "meter", "ct count", "ct helper", "ct timeout",
	"ct expectation", "secmark", "tunnel", "tproxy", "synproxy", "reset", "optstrip", "dnat", "redirect",
	"accept", "drop", "reject", "return", "continue", "jump", "goto",
}

func (w *walker) statement(to *Effect, kind string, v any) {
	switch kind {
	case "mangle":
		w.mangle(to, v)
	case "masquerade":
		to.Rewrites = true
	case "snat":
		to.Rewrites = to.Rewrites || w.verdict(kind, v, 0) == rewritten
	case "notrack":
		to.Untracks = to.Untracks || w.packet.Proto != 0
	case "fwd", "dup":
		to.Forwards = true
	case "flow":
		to.Offloads = to.Offloads || w.packet.FromIPsec || w.packet.ToIPsec
	case "queue", "xt": // another program decides, or a target of iptables
		to.Writes, to.Sets, to.Rewrites, to.Ends = ^uint32(0), ^uint32(0), true, true
	default: // a statement that nft prints otherwise, such as a jump to a chain without a name
		if !slices.Contains(harmless, kind) {
			*to = Effect{^uint32(0), ^uint32(0), true, true, true, true, true, true}
		}
	}
}

// apart are header fields that neither rules nor routes go by.
var apart = []string{"dscp", "ecn", "ttl", "hoplimit", "flowlabel", "checksum", "id", "window", "urgptr"}

func (w *walker) mangle(to *Effect, v any) {
	target, what := only(field(v, "key"))
	switch key, _ := field(what, "key").(string); {
	case target == "meta" && key == "mark":
		keeps, sets := written(field(v, "value"))
		to.Writes, to.Sets = to.Writes|^keeps|sets, to.Sets|sets
	case target == "payload":
		header, _ := field(what, "protocol").(string)
		name, _ := field(what, "field").(string)
		if header != "ether" && header != "vlan" && header != "arp" && !slices.Contains(apart, name) {
			to.Remakes = true
		}
	}
}

// targets are the chains to which a value leads, by itself or by the elements of named maps.
func (w *walker) targets(v any, maps map[string][]any) []string {
	var names []string
	switch v := v.(type) {
	case string:
		if len(v) > 1 && v[0] == '@' {
			for _, e := range maps[v[1:]] {
				names = append(names, w.targets(e, nil)...)
			}
		}
	case []any:
		for _, one := range v {
			names = append(names, w.targets(one, maps)...)
		}
	case map[string]any:
		for key, one := range v {
			if name, ok := field(one, "target").(string); ok && (key == "jump" || key == "goto") {
				names = append(names, name)
				continue
			}
			names = append(names, w.targets(one, maps)...)
		}
	}
	return names
}
