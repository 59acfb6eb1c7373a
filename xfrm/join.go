package xfrm

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Tunnels joins a snapshot's policies and states. Policies make a tunnel:
// those with the same reqid, protocol, mode and outer addresses are one. States
// then serve the tunnel with their reqid and addresses. A state that serves none
// is listed in Ignored with the reason.
//
// The kernel itself ties a template to a state by the reqid
// (xfrm_tmpl_resolve), so it is the join's key here too. Where it is 0, as with
// manual keying, if_id and mark tell tunnels apart as well.
func Tunnels(s Snapshot) Set {
	// A tunnel has three policies as a rule.
	n := len(s.Policies)/3 + 1
	j := joiner{
		snapshot: s, byReqid: make(map[uint32]chain, n), index: make(map[tunnelKey]int), pairs: make(map[pairKey]int),
		tunnels: make([]Tunnel, 0, n), next: make([]int, 0, n), keys: make([]tunnelKey, 0, n), unserved: make(map[uint32][]Ignored),
	}
	for i := range s.Policies {
		j.policy(&s.Policies[i])
	}
	for i := range s.States {
		j.state(&s.States[i])
	}
	j.finish()
	return Set{Tunnels: j.tunnels, Exceptions: j.exceptions, Ignored: j.allIgnored()}
}

// tunnelKey is the common part of the policies of one tunnel.
type tunnelKey struct {
	reqid         uint32
	proto         Proto
	mode          Mode
	comp          bool
	local, remote netip.Addr
	// Only for reqid 0:
	ifID uint32
	mark Mark
}

type joiner struct {
	snapshot Snapshot
	tunnels  []Tunnel
	keys     []tunnelKey // of tunnels
	// byReqid leads to the tunnels of each reqid in their order: to the first, and
	// next to the one after it; both count from 1, so that 0 is none.
	byReqid map[uint32]chain
	next    []int
	// index and pairs find those that are not among the few that are looked through, as
	// nearly all are: the hash of so large a key costs more.
	index      map[tunnelKey]int
	pairs      map[pairKey]int
	exceptions []Exception
	ignored    []Ignored
	// unserved are the states that serve no tunnel, by reqid.
	unserved map[uint32][]Ignored
	sockets  int
	larval   int
}

// chain is the tunnels of one reqid.
type chain struct{ first, last, n int }

// few is how many tunnels of a reqid, or pairs of a tunnel, are looked through.
const few = 8

// find returns the place of the tunnel with that key.
func (j *joiner) find(key tunnelKey) (int, bool) {
	at := j.byReqid[key.reqid].first
	for range few {
		if at == 0 {
			return 0, false
		}
		if j.keys[at-1] == key {
			return at - 1, true
		}
		at = j.next[at-1]
	}
	i, ok := j.index[key]
	return i, ok
}

// tunnel makes a new one.
func (j *joiner) tunnel(key tunnelKey) int {
	i := len(j.tunnels)
	j.tunnels = append(j.tunnels, Tunnel{
		Reqid: key.reqid, Proto: key.proto, Mode: key.mode, Comp: key.comp,
		Local: key.local, Remote: key.remote, Optional: true,
	})
	j.keys, j.next = append(j.keys, key), append(j.next, 0)
	c := j.byReqid[key.reqid]
	if c.n++; c.n > few {
		j.index[key] = i
	}
	if c.first == 0 {
		c.first = i + 1
	} else {
		j.next[c.last-1] = i + 1
	}
	c.last = i + 1
	j.byReqid[key.reqid] = c
	return i
}

func (j *joiner) ignore(object, reason string) {
	j.ignored = append(j.ignored, Ignored{Object: object, Reason: reason})
}

func (j *joiner) unserve(reqid uint32, object, reason string) {
	j.unserved[reqid] = append(j.unserved[reqid], Ignored{Object: object, Reason: reason})
}

func (j *joiner) policy(p *Policy) {
	if p.Socket() {
		j.sockets++
		return
	}
	name := func() string { return fmt.Sprintf("policy %s dir %s priority %d", p.Selector, p.Dir, p.Priority) }
	if p.Type != Main {
		j.ignore(name(), "sub-policies (mobile IPv6) are not supported")
		return
	}
	if p.Dir > Fwd {
		j.ignore(name(), "unknown direction")
		return
	}
	if p.Selector.Src.Addr().Is4In6() || p.Selector.Dst.Addr().Is4In6() {
		j.ignore(name(), "IPv4-mapped addresses are on no wire, and in no rule")
		return
	}
	pair := pairOf(p)
	if p.Action == Block || p.Bypass() {
		j.exceptions = append(j.exceptions, Exception{Pair: pair, Action: p.Action, Priority: p.Priority})
		return
	}
	if p.Action != Allow {
		j.ignore(name(), "unknown action")
		return
	}
	key, optional, ok := keyOf(p, pair)
	if !ok {
		j.ignore(name(), "no ESP or AH template, so nothing protects its traffic")
		return
	}
	i, ok := j.find(key)
	if !ok {
		i = j.tunnel(key)
	}
	t := &j.tunnels[i]
	t.Optional = t.Optional && optional
	if p.Dir != Out || t.IfID == 0 {
		t.IfID = p.IfID
	}
	// The policies of several directions are one pair.
	same := pairKey{i, pair}
	same.pair.Dirs, same.pair.Priority, same.pair.Index = 0, 0, 0
	if optional {
		pair.OptionalDirs = pair.Dirs
	}
	if at, ok := j.findPair(t, same); ok {
		p := &t.Pairs[at]
		// Of two policies of one direction the stricter one holds.
		p.OptionalDirs = p.OptionalDirs&^pair.Dirs | pair.OptionalDirs&^p.Dirs | p.OptionalDirs&pair.OptionalDirs
		p.Dirs |= pair.Dirs
		p.Priority, p.Index = min(p.Priority, pair.Priority), min(p.Index, pair.Index)
		return
	}
	if len(t.Pairs) >= few {
		j.pairs[same] = len(t.Pairs)
	}
	t.Pairs = append(t.Pairs, pair)
}

// findPair returns the place of a pair among those of its tunnel.
func (j *joiner) findPair(t *Tunnel, key pairKey) (int, bool) {
	for at := range t.Pairs[:min(few, len(t.Pairs))] {
		p := t.Pairs[at]
		p.Dirs, p.Priority, p.Index, p.OptionalDirs = 0, 0, 0, 0
		if p == key.pair {
			return at, true
		}
	}
	if len(t.Pairs) <= few {
		return 0, false
	}
	at, ok := j.pairs[key]
	return at, ok
}

// pairKey identifies a policy's pair: all but direction and
// priority, within one tunnel.
type pairKey struct {
	tunnel int
	pair   Pair
}

func pairOf(p *Policy) Pair {
	s := p.Selector
	pair := Pair{
		Local: s.Dst, Remote: s.Src, Proto: s.Proto,
		LocalPort: s.DPort, RemotePort: s.SPort,
		IfID: p.IfID, Mark: p.Mark, Ifindex: s.Ifindex,
		Dirs: 1 << p.Dir, Priority: p.Priority, Index: p.Index,
	}
	if p.Dir == Out {
		pair.Local, pair.Remote = s.Src, s.Dst
		pair.LocalPort, pair.RemotePort = s.SPort, s.DPort
	}
	if s.Proto == ICMP || s.Proto == ICMPv6 {
		pair.LocalPort, pair.RemotePort = s.SPort, s.DPort
	}
	return pair
}

// keyOf finds the template that protects: the first of ESP or AH. With IPComp
// it follows the compression, in transport mode and without addresses of its
// own, so mode and addresses are the first template's.
func keyOf(p *Policy, pair Pair) (key tunnelKey, optional, ok bool) {
	crypt := slices.IndexFunc(p.Templates, func(t Template) bool { return t.Proto == ESP || t.Proto == AH })
	if crypt < 0 {
		return tunnelKey{}, false, false
	}
	t := p.Templates[crypt]
	first := p.Templates[0]
	key = tunnelKey{reqid: t.Reqid, proto: t.Proto, mode: first.Mode, comp: first.Proto == Comp}
	if key.reqid == 0 {
		key.ifID, key.mark = p.IfID, p.Mark
	}
	for _, a := range p.Templates[:crypt+1] {
		if Specified(a.Src) && Specified(a.Dst) {
			key.local, key.remote = a.Dst, a.Src
			if p.Dir == Out {
				key.local, key.remote = a.Src, a.Dst
			}
			return key, t.Optional, true
		}
	}
	// Transport mode: the endpoints are the selector's own hosts.
	if key.mode == TransportMode && pair.Local.IsSingleIP() && pair.Remote.IsSingleIP() {
		key.local, key.remote = pair.Local.Addr(), pair.Remote.Addr()
	}
	return key, t.Optional, true
}

// Specified reports whether an address is valid and not 0.0.0.0 or ::, which stand for
// any address in policies and templates.
func Specified(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }

func (j *joiner) state(s *State) {
	if s.Pseudo() || s.Proto == Comp {
		return // parts of an IPComp bundle; the bundle's ESP state stands for it
	}
	if s.Larval() {
		j.larval++
		return
	}
	name := func() string {
		return fmt.Sprintf("state %s -> %s %s spi %#x reqid %d", s.Src, s.Dst, s.Proto, s.SPI, s.Reqid)
	}
	if s.Proto != ESP && s.Proto != AH {
		j.unserve(s.Reqid, name(), "neither ESP nor AH")
		return
	}
	reason := "no policy asks for its reqid"
	for at := j.byReqid[s.Reqid].first; at > 0; at = j.next[at-1] {
		t := &j.tunnels[at-1]
		if t.Proto != s.Proto || !t.Comp && t.Mode != s.Mode {
			reason = "the policies with its reqid ask for another protocol or mode"
			continue
		}
		inbound, fits := j.direction(t, s)
		if !fits {
			reason = "the policies with its reqid name other addresses"
			continue
		}
		if !t.hasIfID(s.IfID) {
			reason = "the policies with its reqid have another if_id"
			continue
		}
		if t.SAs == nil {
			t.SAs = make([]SA, 0, 2)
		}
		t.SAs = append(t.SAs, SA{State: *s, Inbound: inbound})
		return
	}
	j.unserve(s.Reqid, name(), reason)
}

// direction returns the direction of a state of the tunnel. Where the policies leave the
// addresses open, the direction that the daemon set decides, or else the address that is
// this host's.
func (j *joiner) direction(t *Tunnel, s *State) (inbound, fits bool) {
	if Specified(t.Local) && Specified(t.Remote) {
		if s.Src == t.Remote && s.Dst == t.Local {
			return s.Dir != Outbound, true
		}
		return false, s.Src == t.Local && s.Dst == t.Remote
	}
	switch {
	case s.Dir != Undeclared:
		return s.Dir == Inbound, true
	case j.snapshot.Host.Owns(s.Dst):
		return true, true
	}
	return false, true
}

func (t *Tunnel) hasIfID(id uint32) bool {
	return slices.ContainsFunc(t.Pairs, func(p Pair) bool { return p.IfID == id })
}

func (j *joiner) finish() {
	for i := range j.tunnels {
		t := &j.tunnels[i]
		slices.SortFunc(t.Pairs, Pair.Compare)
		slices.SortFunc(t.SAs, func(a, b SA) int {
			return cmp.Or(-CompareBool(a.Inbound, b.Inbound), cmp.Compare(a.SPI, b.SPI), a.Src.Compare(b.Src))
		})
		t.learnEndpoints()
	}
	nameTunnels(j.tunnels)
	slices.SortFunc(j.tunnels, compareTunnels)
	slices.SortStableFunc(j.exceptions, func(a, b Exception) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Pair.Dirs, b.Pair.Dirs), a.Pair.Compare(b.Pair))
	})
}

func compareTunnels(a, b Tunnel) int {
	return cmp.Or(a.Pairs[0].Compare(b.Pairs[0]), cmp.Compare(a.ID, b.ID))
}

// allIgnored lists the records that became no tunnel.
func (j *joiner) allIgnored() []Ignored {
	ignored := slices.Clone(j.ignored)
	for _, states := range j.unserved {
		ignored = append(ignored, states...)
	}
	if j.sockets > 0 {
		ignored = append(ignored, Ignored{fmt.Sprintf("%d socket policies", j.sockets), reasonSockets})
	}
	if j.larval > 0 {
		ignored = append(ignored, Ignored{fmt.Sprintf("%d larval states", j.larval), reasonLarval})
	}
	ignored = append(ignored, j.snapshot.Skipped...)
	slices.SortFunc(ignored, func(a, b Ignored) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Reason, b.Reason))
	})
	return ignored
}

// learnEndpoints fills addresses that the policies left open from the states.
func (t *Tunnel) learnEndpoints() {
	if Specified(t.Local) && Specified(t.Remote) || len(t.SAs) == 0 {
		return
	}
	sa := t.SAs[0]
	t.Local, t.Remote = sa.Src, sa.Dst
	if sa.Inbound {
		t.Local, t.Remote = sa.Dst, sa.Src
	}
}
