package firewall

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// ForeignMark is a rule of another program that writes bits of ours.
type ForeignMark struct {
	Family Family
	Table  Table
	Chain  string
	Raw    string
	// Sets tells that it can set our bits; otherwise it can only clear them.
	Sets bool
}

// String says where the rule stands, and what it is.
func (m ForeignMark) String() string {
	return fmt.Sprintf("%s %s: -A %s %s", m.Family, m.Table, m.Chain, m.Raw)
}

// ForeignMarks finds the rules of others that write our bits. Only what stands
// in PREROUTING, FORWARD and INPUT of our packets matters, but a chain's way
// there can be long, so all chains count.
func ForeignMarks(have map[Family]Save, marks Marks) []ForeignMark {
	var found []ForeignMark
	eachForeign(have, func(family Family, table Table, chain string, r SavedRule) {
		value, mask, ok := written(r)
		if !ok || mask&marks.Both() == 0 {
			return
		}
		found = append(found, ForeignMark{family, table, chain, r.Raw, value&marks.Both() != 0})
	})
	return found
}

// written returns which bits of the packet's mark a rule writes, and to what.
// Bits that it copies from elsewhere count as set.
func written(r SavedRule) (value, mask uint32, ok bool) {
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
		return mask, mask, true
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

func eachForeign(have map[Family]Save, visit func(Family, Table, string, SavedRule)) {
	for _, family := range []Family{xfrm.IPv4, xfrm.IPv6} {
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

// UsedMarks are the bits that something on this host gives a meaning: routing
// rules, states, policies, and rules of others that write them. Rules that only
// match don't count: they may well match on VERIFIED. A mask of all bits, as by
// default, says nothing about which are used and counts with its value.
func UsedMarks(s xfrm.Snapshot, have map[Family]Save) uint32 {
	var used uint32
	add := func(value, mask uint32) {
		if mask == ^uint32(0) {
			mask = value
		}
		used |= mask
	}
	for _, r := range s.Host.Rules {
		used |= r.Mark.Mask
	}
	for _, st := range s.States {
		add(st.Mark.Value, st.Mark.Mask)
		add(st.SetMark.Value, st.SetMark.Mask)
	}
	for _, p := range s.Policies {
		add(p.Mark.Value, p.Mark.Mask)
	}
	eachForeign(have, func(_ Family, _ Table, _ string, r SavedRule) {
		if v, m, ok := written(r); ok {
			add(v, m)
		}
	})
	return used
}

// FreeMarks picks a pair of bits that are not used: the default one, or else
// the highest pair that is free.
func FreeMarks(used uint32) (Marks, bool) {
	if d := DefaultMarks(); used&d.Both() == 0 {
		return d, true
	}
	free := ^used
	if bits.OnesCount32(free) < 2 {
		return Marks{}, false
	}
	high := uint32(1) << (31 - bits.LeadingZeros32(free))
	low := uint32(1) << (31 - bits.LeadingZeros32(free&^high))
	return Marks{Tag: low, Verified: high}, true
}

// CheckMarks refuses a pair of bits that a routing rule looks at: our packets
// would be routed by it. The error names the rule, and a pair that is free.
func CheckMarks(s xfrm.Snapshot, have map[Family]Save, marks Marks) error {
	for _, r := range s.Host.Rules {
		if r.Mark.Mask&marks.Both() == 0 {
			continue
		}
		instead := "no two bits are free: narrow the rule's mask"
		if free, ok := FreeMarks(UsedMarks(s, have)); ok {
			instead = fmt.Sprintf("set marks: {tag: %#x, verified: %#x}, or marks: auto", free.Tag, free.Verified)
		}
		return fmt.Errorf("the routing rule \"ip rule\" %d with fwmark %s looks at our bits %#x: %s",
			r.Priority, r.Mark, marks.Both(), instead)
	}
	return nil
}
