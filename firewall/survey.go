package firewall

import (
	"cmp"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// survey is what one compilation found out about each tunnel, so that the next one
// looks only at those that are not as they were. It holds for one host and one
// configuration.
type survey struct {
	tunnels []xfrm.Tunnel
	reports []TunnelReport
	claims  []claim
	facts   []tunnelFacts
	// reqids counts the tunnels of each reqid; shared are those of several.
	reqids map[uint32]int
	shared map[uint32]bool
	// next is the first tunnel that was not looked for yet.
	next int
}

// tunnelFacts is what is to be known of a tunnel besides its report and claims.
type tunnelFacts struct {
	// claimed is how many claims the tunnels up to this one have.
	claimed int
	// again tells that more came of its claims, so that they are to be made anew.
	again bool
	// up tells that it has its states, offload that a network card does all of ESP
	// for one of them, and notable that it is more than a plain tunnel. What is not
	// notable needs no rules but those of its claims and guards.
	up, offload, notable bool
}

// survey finds out what is to be known of each tunnel.
func (c *compiler) survey() {
	was := c.memo.survey
	// A tunnel's devices are found by its place, so reports of them don't last.
	if plain := len(c.overlays)+len(c.devices) == 0; !plain || was.reqids == nil {
		was = survey{reqids: make(map[uint32]int, len(c.Set.Tunnels)), shared: make(map[uint32]bool)}
	}
	n := len(c.Set.Tunnels)
	c.result.Tunnels, c.claims, c.facts = make([]TunnelReport, n), make([]claim, 0, n+n/64), make([]tunnelFacts, n)
	c.shared = was.shared
	for i := range c.Set.Tunnels {
		t, f := &c.Set.Tunnels[i], &c.facts[i]
		at, ok := was.find(t)
		if !ok {
			was.count(t.Reqid, 1)
		}
		if ok && !was.facts[at].again {
			*f = was.facts[at]
			c.result.Tunnels[i] = was.reports[at]
			for _, one := range claimsOf(was.claims, was.facts, at) {
				one.tunnel = i
				c.claims = append(c.claims, one)
			}
		} else {
			ignored := len(c.result.Ignored)
			c.report(i)
			c.claim(i)
			*f = c.look(t)
			f.again = len(c.result.Ignored) > ignored
		}
		f.claimed = len(c.claims)
		c.offload = c.offload || f.offload
		if !f.up {
			c.down[t.ID] = true
		}
		if f.notable {
			c.notable = append(c.notable, i)
		}
	}
	was.skip(len(was.tunnels))
	if len(c.overlays)+len(c.devices) == 0 {
		c.memo.survey = survey{tunnels: c.Set.Tunnels, reports: c.result.Tunnels, claims: c.claims, facts: c.facts, reqids: was.reqids, shared: was.shared}
	} else {
		c.memo.survey = survey{}
	}
}

// find returns the place of a tunnel that is as it was. Tunnels are asked for in
// their order.
func (s *survey) find(t *xfrm.Tunnel) (at int, ok bool) {
	for s.next < len(s.tunnels) {
		old := &s.tunnels[s.next]
		if sameTunnel(old, t) {
			s.next++
			return s.next - 1, true
		}
		if compareTunnels(old, t) > 0 {
			break
		}
		s.skip(s.next + 1)
	}
	return 0, false
}

// skip passes tunnels that are there no more.
func (s *survey) skip(to int) {
	for ; s.next < to; s.next++ {
		s.count(s.tunnels[s.next].Reqid, -1)
	}
}

// count notes that a reqid has more or fewer tunnels.
func (s *survey) count(reqid uint32, more int) {
	n := s.reqids[reqid] + more
	if s.reqids[reqid] = n; n == 0 {
		delete(s.reqids, reqid)
	}
	if s.shared[reqid] = n > 1; n <= 1 {
		delete(s.shared, reqid)
	}
}

// compareTunnels orders tunnels as a Set does.
func compareTunnels(a, b *xfrm.Tunnel) int {
	return cmp.Or(a.Pairs[0].Compare(b.Pairs[0]), cmp.Compare(a.ID, b.ID))
}

// look finds out what rules a tunnel may need besides those of its claims and
// guards.
func (c *compiler) look(t *xfrm.Tunnel) tunnelFacts {
	_, configured := c.config(t)
	f := tunnelFacts{up: t.Up(), notable: configured || t.Comp}
	for i := range t.Pairs {
		p := &t.Pairs[i]
		f.notable = f.notable || p.Mark.Mask != 0 || wide(p.Local)
	}
	for i := range t.SAs {
		sa := &t.SAs[i]
		f.offload = f.offload || sa.Offload.Packet()
		f.notable = f.notable || sa.Mark.Mask != 0 || oddPort(sa)
	}
	return f
}
