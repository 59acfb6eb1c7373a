package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// claimMade is all that the rules of a claim are made from, besides the marks.
type claimMade struct {
	pair     xfrm.Pair
	policy   PolicyMatch
	untagged Purpose
	enforced bool
	// live tells that the tunnel has states.
	live   bool
	tunnel string
}

// claimRules is a claim's place among all, and the number of its rules in each of
// its places in the trees, plus one.
type claimRules struct {
	keyed
	made claimMade
	// verify are those of cases 1 to 3, began and replied those of 1b.
	verify, began, replied uint8
	// owner are those of the only owner of a source.
	owner uint8
}

// claimList is the claims of one family that are in its trees.
type claimList struct {
	// verified are these claims in their order, with nil for all others among them.
	verified []*claimRules
	sources  keyIndex
}

// findClaims finds out which of the claims are as they were: made from the same.
func (b *builder) findClaims() {
	was := b.memo.claims[b.family]
	now := claimList{verified: make([]*claimRules, len(b.claims)), sources: was.sources}
	var added []*keyed
	var room []claimRules
	if len(was.verified) == 0 {
		room = make([]claimRules, len(b.claims))
	}
	rest := was.verified
	skip := func() {
		if r := rest[0]; r != nil {
			b.touchedClaims = append(b.touchedClaims, r.made.pair.Remote)
			r.at = -1
		}
		rest = rest[1:]
	}
	for i := range b.claims {
		c := &b.claims[i]
		if c.pair.Family() != b.family || c.policyOnly {
			continue
		}
		t := &b.Set.Tunnels[c.tunnel]
		made := claimMade{
			pair: c.pair, policy: b.policyIn(*t, b.family), untagged: b.untaggedPurpose(c.tunnel), enforced: b.enforced(c.tunnel),
			live: len(t.SAs) > 0, tunnel: t.ID,
		}
		for len(rest) > 0 && (rest[0] == nil || rest[0].made != made && rest[0].made.pair.Compare(made.pair) < 0) {
			skip()
		}
		var r *claimRules
		if len(rest) > 0 && rest[0].made == made {
			r, rest = rest[0], rest[1:]
			r.at = i
		} else {
			if len(room) == 0 {
				room = make([]claimRules, 1)
			}
			r, room = &room[0], room[1:]
			*r = claimRules{keyed: keyed{key: c.pair.Remote.Masked(), at: i}, made: made}
			added = append(added, &r.keyed)
			b.touchedClaims = append(b.touchedClaims, c.pair.Remote)
		}
		now.verified[i] = r
	}
	for len(rest) > 0 {
		skip()
	}
	now.sources.renew(added)
	b.claimList = now
	b.memo.claims[b.family] = now
}

// claimsIn are the places of the claims whose remote selectors overlap a prefix, in
// their order, in memory that the next call overwrites.
func (b *builder) claimsIn(p netip.Prefix) []int {
	places := b.scratch.places[:0]
	if p.Bits() > 0 {
		places = b.sources.overlapping(places, p)
	} else {
		for i, r := range b.verified {
			if r != nil {
				places = append(places, i)
			}
		}
	}
	b.scratch.places = places
	return places
}
