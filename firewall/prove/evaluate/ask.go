package evaluate

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// Alone reports whether a table of nftables decides alone.
func (w *Firewall) Alone() bool { return w.rules == nil }

// Beside reports whether a table of nftables stands beside rules of iptables.
func (w *Firewall) Beside() bool { return w.rules != nil && w.table != nil }

// Surely returns the packets that meet one of the verbs in some hook whatever their mark
// is there, if no hook before has dropped them. A packet's way through all hooks need not
// be followed for them.
func (w *Firewall) Surely(way firewall.Way, verbs ...rules.Verb) space.Set {
	if w.rules == nil {
		return w.tableSurely(way, verbs)
	}
	var sure []space.Set
	for _, at := range routes[way] {
		if at == natPost {
			continue
		}
		e := w.hook(way, at)
		for _, h := range e.rules.hooks {
			if h.Table != at.table || h.From != at.hook {
				continue
			}
			set := space.All
			for m := range nothing {
				var ended []space.Set
				for how, packets := range e.chain(rules.ChainKey{Table: h.Table, Name: h.To}, m).ended {
					if slices.Contains(verbs, how.verb) {
						ended = append(ended, packets)
					}
				}
				set = w.And(set, w.Union(ended...))
			}
			sure = append(sure, set)
		}
	}
	return w.Union(sure...)
}

// MayEnd returns packets among which all that are dropped are.
func (w *Firewall) MayEnd(way firewall.Way) space.Set {
	all := []space.Set{w.TableMayEnd(way)}
	if w.rules == nil {
		return w.Union(all...)
	}
	for _, at := range routes[way] {
		e := w.hook(way, at)
		for m := range nothing {
			for _, h := range e.rules.hooks {
				if h.Table != at.table || h.From != at.hook {
					continue
				}
				for how, set := range e.chain(rules.ChainKey{Table: h.Table, Name: h.To}, m).ended {
					if how.verb != rules.Accept {
						all = append(all, set)
					}
				}
			}
		}
	}
	return w.Union(all...)
}

// VerifiedOf returns the packets of a set that carry VERIFIED where the rules have told it.
// A table tells it last, of the packets that it has not dropped, and marks packets into a
// tunnel as well.
func (w *Firewall) VerifiedOf(way firewall.Way, from space.Set) (verified, dropped space.Set) {
	if w.rules == nil {
		f := w.runAlone(way, from)
		return f.verified, w.Or(f.Dropped, f.Rejected)
	}
	in := w.hook(way, prerouting).pass(newEffect(), prerouting, w.arriving(way, from))
	return w.Or(in[verifiedBit], in[verifiedBit|tagBit]), space.None
}

// MarksBehind returns the packets of a set that a hook of mangle lets pass with TAG, and
// those with VERIFIED. It asks the rules of iptables.
func (w *Firewall) MarksBehind(way firewall.Way, hook string, from space.Set) (tagged, verified space.Set) {
	if from == space.None {
		return space.None, space.None
	}
	after := w.runRules(way, from, keep).after[place{rules.Mangle, hook}]
	return w.Or(after[tagBit], after[tagBit|verifiedBit]), w.Or(after[verifiedBit], after[tagBit|verifiedBit])
}

// OpenToNAT returns the packets of a set that no rule exempts from the NAT of others.
func (w *Firewall) OpenToNAT(way firewall.Way, is space.Set) space.Set {
	if w.table != nil {
		is = w.Minus(is, w.bound(way))
	}
	if w.rules == nil {
		return is
	}
	e := w.hook(way, natPost)
	to := newEffect()
	in := nothing
	in[0] = is
	e.pass(to, natPost, in)
	for how, set := range to.ended {
		if how.verb == rules.Accept {
			is = w.Minus(is, set)
		}
	}
	return is
}
