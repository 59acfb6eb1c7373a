package prove

import (
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// undone returns the packets with which rules of other programs break the property that was
// asked last, and these rules: one, if one is enough.
func (q *question) undone(property string) (space.Set, []string) {
	if len(q.others) == 0 || q.kept == space.None {
		return space.None, nil
	}
	all := q.with(property, q.others)
	if all == space.None {
		return space.None, nil
	}
	for i := range q.others {
		if set := q.with(property, q.others[i:i+1]); set != space.None {
			return set, []string{q.others[i].Text}
		}
	}
	var texts []string
	for i := range q.others {
		texts = append(texts, q.others[i].Text)
	}
	return all, texts
}

func (q *question) with(property string, others []live.Other) space.Set {
	switch property {
	case "nat":
		return q.w.MayRewrite(q.Way, q.kept, others)
	case "wiped":
		return q.w.MayCut(q.Way, q.kept, others)
	}
	u := q.w.May(q.Way, q.kept, others)
	switch property {
	case "verified":
		return u.Verified
	case "forged":
		return u.Seen
	}
	return u.Passes
}

// rewritten are packets into tunnels that no rule exempts from the NAT of others.
func (q *question) rewritten() space.Set {
	var keep []space.Set
	for i := range q.NATKeep {
		k := &q.NATKeep[i]
		if xfrm.FamilyOf(k.Remote.Addr()) == q.Family {
			keep = append(keep, q.And(q.GoesInto(k.Out), q.And(q.LiesIn(q.Src, k.Local), q.LiesIn(q.RoutedDst, k.Remote))))
		}
	}
	for _, d := range q.Devices {
		if d.KeepNAT {
			keep = append(keep, q.GoesOutBy(d.Name))
		}
	}
	q.kept = q.Minus(q.And(q.real, q.LetOut()), q.Union(keep...))
	return q.w.OpenToNAT(q.Way, q.kept)
}
