package live

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// ForeignMark is a rule of another program that writes bits of the fwmark.
type ForeignMark struct {
	Family xfrm.Family
	Table  rules.Table
	Chain  string
	Raw    string
	// Sets is true if the rule can set the bits; otherwise it can only clear them.
	Sets bool
}

// String returns the rule and its place.
func (m ForeignMark) String() string {
	return fmt.Sprintf("%s %s: -A %s %s", m.Family, m.Table, m.Chain, m.Raw)
}

// ForeignMarks returns the rules of others that write some of these bits. Only rules on
// the way of our packets through PREROUTING, FORWARD and INPUT matter, but a chain's way
// there can be long, so all chains count.
func ForeignMarks(have map[xfrm.Family]Tables, bits uint32) []ForeignMark {
	var found []ForeignMark
	eachForeign(have, func(family xfrm.Family, table rules.Table, chain string, r Rule) {
		value, mask, ok := written(r)
		if !ok || (value|mask)&bits == 0 {
			return
		}
		found = append(found, ForeignMark{family, table, chain, r.Raw, value&bits != 0})
	})
	return found
}

// written returns the bits of the packet's mark that a rule writes, and their values.
// Bits that it copies from elsewhere count as set.
func written(r Rule) (value, mask uint32, ok bool) {
	switch r.Target {
	case "MARK":
		return option(r.Raw, "--set-xmark ")
	case "TPROXY":
		return option(r.Raw, "--tproxy-mark ")
	case "CONNMARK":
		if !strings.Contains(r.Raw, "--restore-mark") {
			return 0, 0, false
		}
		mask = ^uint32(0)
		for _, o := range []string{"--nfmask ", "--mask "} {
			if m, _, ok := option(r.Raw, o); ok {
				mask = m
			}
		}
		value = mask
		if m, _, ok := option(r.Raw, "--ctmask "); ok {
			value = m
		}
		return value, mask, true
	case "SET":
		if strings.Contains(r.Raw, "--map-mark") {
			return ^uint32(0), ^uint32(0), true
		}
	}
	return 0, 0, false
}

// option reads VALUE[/MASK] after an option; without a mask it is all bits.
func option(raw, name string) (value, mask uint32, ok bool) {
	_, rest, found := strings.Cut(raw, name)
	if !found {
		return 0, 0, false
	}
	word, _, _ := strings.Cut(rest, " ")
	v, m, both := strings.Cut(word, "/")
	n, err := strconv.ParseUint(v, 0, 32)
	if err != nil {
		return 0, 0, false
	}
	mask = ^uint32(0)
	if both {
		k, err := strconv.ParseUint(m, 0, 32)
		if err != nil {
			return 0, 0, false
		}
		mask = uint32(k)
	}
	return uint32(n), mask, true
}

func eachForeign(have map[xfrm.Family]Tables, visit func(xfrm.Family, rules.Table, string, Rule)) {
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		for _, t := range have[family].Tables {
			for _, c := range t.Chains {
				if c.Ours() {
					continue
				}
				for _, r := range c.Rules {
					if r.ID == "" {
						visit(family, t.Name, c.Name, r)
					}
				}
			}
		}
	}
}

// WrittenMarks returns the bits of the fwmark that rules of others write. A rule that
// writes all 32 bits, as is the default, counts with its value: it does not tell which
// of them have a meaning.
func WrittenMarks(have map[xfrm.Family]Tables) uint32 {
	var bits uint32
	eachForeign(have, func(_ xfrm.Family, _ rules.Table, _ string, r Rule) {
		if value, mask, ok := written(r); ok {
			if mask == ^uint32(0) {
				mask = value
			}
			bits |= mask
		}
	})
	return bits
}
