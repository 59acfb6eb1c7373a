package foreign

import "net/netip"

// Packet is the known part of a packet. It begins a flow of its own.
type Packet struct {
	// Src and Dst are invalid where they are not known; Six is true for IPv6.
	Src, Dst netip.Addr
	Six      bool
	// In and Out are interfaces: empty if not known. NoIn and NoOut tell that the
	// packet has none at its hook.
	In, Out     string
	NoIn, NoOut bool
	// Proto is the protocol above IP, 0 if not known; ports are those of UDP.
	Proto        uint8
	SPort, DPort uint16
	// Mark holds the bits of Known, the others may have any value.
	Mark, Known uint32
	// FromIPsec is true if a state decrypted the packet, ToIPsec if one will encrypt it.
	FromIPsec, ToIPsec bool
}

// Fate is a packet's end in a base chain.
type Fate struct {
	// Dropped and Rewritten are certain: a rule that may or may not match is left
	// out, whether it accepts or drops.
	Dropped, Rewritten bool
	// Kept is true if a NAT rule gives the flow its own source: no later chain rewrites
	// it then.
	Kept bool
	// By is the chain of the rule that decides, with Handle; it is the base chain
	// and no handle where its policy does.
	By     string
	Handle int
}

// Walk sends a packet through a base chain of the table.
func (t Table) Walk(base Chain, p Packet) Fate {
	if t.Family == "ip" && p.Six || t.Family == "ip6" && !p.Six {
		return Fate{}
	}
	w := walker{table: t, packet: p}
	switch w.chain(base, 0) {
	case dropped:
		return Fate{Dropped: true, By: w.by, Handle: w.handle}
	case rewritten:
		return Fate{Rewritten: true, By: w.by, Handle: w.handle}
	case kept:
		return Fate{Kept: true, By: w.by, Handle: w.handle}
	case accepted:
		return Fate{}
	}
	return Fate{Dropped: base.Policy == "drop", By: base.Name}
}

// verdict is how a rule or chain ends.
type verdict int

const (
	goesOn verdict = iota // to the next rule
	returns
	accepted
	dropped
	rewritten
	kept
)

type walker struct {
	table  Table
	packet Packet
	by     string
	handle int
	// anyFlow is true if the packet may be of any flow, in place of a new one.
	anyFlow bool
}

// deepest is how deep the kernel lets chains nest (NFT_JUMP_STACK_SIZE).
const deepest = 16

func (w *walker) chain(c Chain, depth int) verdict {
	if depth > deepest {
		return goesOn
	}
	for _, r := range c.Rules {
		switch v := w.rule(r, depth); v {
		case goesOn:
		case returns:
			return goesOn
		default:
			if w.by == "" {
				w.by, w.handle = c.Name, r.Handle
			}
			return v
		}
	}
	return goesOn
}

// rule runs the expressions of a rule from the left. An expression that may match or not
// ends it.
func (w *walker) rule(r Rule, depth int) verdict {
	for _, e := range r.expr {
		kind, value := only(e)
		switch kind {
		case "match":
			if w.match(value) != yes {
				return goesOn
			}
		case "vmap":
			return w.vmap(value, depth)
		case "accept", "drop", "reject", "return", "jump", "goto", "masquerade", "snat", "dnat", "redirect":
			return w.verdict(kind, value, depth)
		case "limit", "quota", "ct count", "xt", "queue":
			return goesOn // may match, or be taken to another program
		}
	}
	return goesOn
}

func (w *walker) verdict(kind string, value any, depth int) verdict {
	switch kind {
	case "accept":
		return accepted
	case "drop", "reject":
		return dropped
	case "return":
		return returns
	case "snat":
		if header, what := only(field(value, "addr")); header == "payload" && field(what, "field") == "saddr" {
			return kept
		}
		return rewritten
	case "masquerade":
		return rewritten
	case "dnat", "redirect":
		return accepted
	case "jump", "goto":
		target, _ := field(value, "target").(string)
		c, ok := w.table.chain(target)
		if !ok {
			return goesOn
		}
		v := w.chain(c, depth+1)
		// Behind a goto the caller's rules are not gone on with.
		if kind == "goto" && v == goesOn {
			return returns
		}
		return v
	}
	return goesOn
}

// vmap takes the verdict of the element that the key is.
func (w *walker) vmap(value any, depth int) verdict {
	elements := w.elements(field(value, "data"))
	key := w.value(field(value, "key"))
	for _, e := range elements {
		pair, ok := e.([]any)
		if !ok || len(pair) != 2 {
			return goesOn
		}
		switch w.is(key, element(pair[0])) {
		case yes:
			kind, value := only(pair[1])
			return w.verdict(kind, value, depth)
		case maybe:
			return goesOn
		}
	}
	return goesOn
}

// only returns the single entry of a JSON object; a bare word is one too.
func only(v any) (string, any) {
	switch v := v.(type) {
	case string:
		return v, nil
	case map[string]any:
		for k, value := range v {
			if len(v) == 1 {
				return k, value
			}
		}
	}
	return "", nil
}

func field(v any, name string) any {
	m, _ := v.(map[string]any)
	return m[name]
}

// element takes the value from an element with a timeout or comment.
func element(v any) any {
	if e := field(v, "elem"); e != nil {
		return field(e, "val")
	}
	return v
}
