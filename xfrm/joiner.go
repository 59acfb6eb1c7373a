package xfrm

import (
	"hash/maphash"
	"net/netip"
	"slices"
)

// Joiner joins again and again, as a daemon does, and joins anew only records that have
// changed since the last time. Its results are those of Tunnels. The zero value is
// ready to use; it is not for concurrent use.
//
// Results share memory with each other, so callers must not change them.
type Joiner struct {
	seed maphash.Seed
	set  Set
	// groups are records with a common reqid: nothing else ties policies to states,
	// so tunnels of one reqid don't depend on those of another. index finds them.
	groups []reqidGroup
	index  map[uint32]int32
	// policies and states tell of which group each of the snapshot's is, ofTunnels
	// each of the set's tunnels.
	policies, states sequence
	ofTunnels        []int32
	// rest is a hash of the policies that make no tunnel, in their order.
	rest, restNow uint64
	// unserved and ignored are the joiner's.
	unserved  map[uint32][]Ignored
	ignored   []Ignored
	addresses []Address
	// used are the states through which something has passed, by their place in the
	// snapshot.
	used []usedState
	// uniqueIDs is true if no tunnel's ID depends on another tunnel.
	uniqueIDs bool
	known     bool
}

// reqidGroup is the policies and states of one reqid.
type reqidGroup struct {
	reqid uint32
	// tunnel is the place of the only tunnel in the set, none or several.
	tunnel int32
	// sum is a hash of the policies in their order, which decides where they differ
	// in fields that a tunnel has only once.
	sum, sumNow uint64
	// policies and states count the snapshot's; found has a bit set for each
	// state of the tunnel that is among them.
	policies, states int32
	found            uint64
	changed          bool
}

// usedState is a state of a tunnel and its place in the snapshot.
type usedState struct{ tunnel, sa, state int32 }

// hashStep tells hashes of policies that changed places from those that didn't. It is
// odd, so that none gets lost.
const hashStep = 0x9e3779b97f4a7c15

// The places of tunnels that a group has not.
const (
	none    int32 = -1
	several int32 = -2
)

// Tunnels is the function of that name.
func (j *Joiner) Tunnels(s Snapshot) Set {
	if !j.known {
		j.seed, j.known = maphash.MakeSeed(), true
		j.index = make(map[uint32]int32, len(s.Policies)/3+1)
		j.look(&s)
		return j.whole(s)
	}
	sockets, larval := j.look(&s)
	j.count(&s)
	changed := j.changed()
	if j.rest != j.restNow || changed > len(j.groups)/4+8 || !slices.Equal(j.addresses, s.Host.Addresses) || changed > 0 && !j.rejoin(s) {
		return j.whole(s)
	}
	j.set.Ignored = (&joiner{snapshot: s, ignored: j.ignored, unserved: j.unserved, sockets: sockets, larval: larval}).allIgnored()
	return j.set
}

// whole joins all.
func (j *Joiner) whole(s Snapshot) Set {
	all := join(s)
	j.set = Set{Tunnels: all.tunnels, Exceptions: all.exceptions, Ignored: all.allIgnored()}
	j.unserved, j.ignored, j.uniqueIDs = all.unserved, all.ignored, all.uniqueIDs
	j.addresses = s.Host.Addresses
	j.commit()
	return j.set
}

// commit takes over the new records as the known ones, once all were joined.
func (j *Joiner) commit() {
	j.rest = j.restNow
	if empty := func(g reqidGroup) bool { return g.policies == 0 && g.states == 0 }; slices.ContainsFunc(j.groups, empty) {
		j.groups = slices.DeleteFunc(j.groups, empty)
		clear(j.index)
		for i, g := range j.groups {
			j.index[g.reqid] = int32(i)
		}
		j.policies, j.states = sequence{}, sequence{}
	}
	j.ofTunnels = make([]int32, len(j.set.Tunnels))
	for i := range j.set.Tunnels {
		j.ofTunnels[i] = j.index[j.set.Tunnels[i].Reqid]
	}
	j.place()
}

// place tells the groups which tunnels are theirs.
func (j *Joiner) place() {
	for i := range j.groups {
		j.groups[i].sum, j.groups[i].tunnel = j.groups[i].sumNow, none
	}
	for i, at := range j.ofTunnels {
		g := &j.groups[at]
		if g.tunnel != none {
			g.tunnel = several
			continue
		}
		g.tunnel = int32(i)
	}
}

// look finds the changed groups.
func (j *Joiner) look(s *Snapshot) (sockets, larval int) {
	for i := range j.groups {
		g := &j.groups[i]
		g.sumNow, g.policies, g.states, g.found, g.changed = 0, 0, 0, 0, false
	}
	j.restNow, j.used = 0, j.used[:0]
	j.policies.begin()
	j.states.begin()
	for i := range s.Policies {
		p := &s.Policies[i]
		if p.Socket() {
			sockets++
			j.policies.pass()
			continue
		}
		reqid, ok := protects(p)
		if !ok {
			j.policies.pass()
			j.restNow = j.restNow*hashStep + j.hash(p)
			continue
		}
		g := j.group(&j.policies, reqid)
		g.sumNow = g.sumNow*hashStep + j.hash(p)
		g.policies++
	}
	for i := range s.States {
		st := &s.States[i]
		switch {
		case st.Pseudo() || st.Proto == Comp:
			j.states.pass()
			continue
		case st.Larval():
			larval++
			j.states.pass()
			continue
		}
		g := j.group(&j.states, st.Reqid)
		g.states++
		if g.tunnel < 0 {
			g.changed = true
			continue
		}
		at, used := j.set.Tunnels[g.tunnel].find(st)
		if at < 0 {
			g.changed = true
			continue
		}
		g.found |= 1 << uint(at)
		if used {
			j.used = append(j.used, usedState{g.tunnel, int32(at), int32(i)})
		}
	}
	return sockets, larval
}

// count brings the counters of SAs up to date.
func (j *Joiner) count(s *Snapshot) {
	if len(j.used) == 0 {
		return
	}
	before := j.set.Tunnels
	j.set.Tunnels = slices.Clone(before)
	for _, u := range j.used {
		t := &j.set.Tunnels[u.tunnel]
		if &t.SAs[0] == &before[u.tunnel].SAs[0] {
			t.SAs = slices.Clone(t.SAs)
		}
		t.SAs[u.sa].State = s.States[u.state]
	}
}

// protects returns the reqid of a policy's tunnel, if it makes one.
func protects(p *Policy) (reqid uint32, ok bool) {
	if p.Action != Allow || p.Type != Main || p.Selector.Src.Addr().Is4In6() || p.Selector.Dst.Addr().Is4In6() {
		return 0, false
	}
	for i := range p.Templates {
		if t := &p.Templates[i]; t.Proto == ESP || t.Proto == AH {
			return t.Reqid, true
		}
	}
	return 0, false
}

// group returns the one of the next in a sequence.
func (j *Joiner) group(q *sequence, reqid uint32) *reqidGroup {
	for next := q.next; next < len(q.before) && next <= q.next+maxGone; next++ {
		if at := q.before[next]; at != none && j.groups[at].reqid == reqid {
			q.now, q.next = append(q.now, at), next+1
			return &j.groups[at]
		}
	}
	at, ok := j.index[reqid]
	if !ok {
		at = int32(len(j.groups))
		j.index[reqid] = at
		j.groups = append(j.groups, reqidGroup{reqid: reqid, tunnel: none, changed: true})
	}
	q.now = append(q.now, at)
	return &j.groups[at]
}

// find returns the place of a state among those of a tunnel, or -1, and whether
// anything has passed through it since.
func (t *Tunnel) find(s *State) (at int, used bool) {
	for i := range t.SAs {
		old := &t.SAs[i].State
		if old.SPI != s.SPI || old.Dst != s.Dst {
			continue
		}
		if *s == *old {
			return i, false
		}
		now := *s
		now.UseTime, now.Bytes, now.Packets, now.Errors = old.UseTime, old.Bytes, old.Packets, old.Errors
		if now == *old {
			return i, true
		}
	}
	return -1, false
}

// hash is of all of a policy that a join looks at.
func (j *Joiner) hash(p *Policy) uint64 {
	var stack [512]byte
	s := &p.Selector
	b := append(stack[:0], byte(p.Dir), byte(p.Type), byte(p.Action), byte(s.Proto), byte(s.Src.Bits()), byte(s.Dst.Bits()))
	b = putAddr(putAddr(b, s.Src.Addr()), s.Dst.Addr())
	b = put(b,
		uint64(s.SPort.Port)<<48|uint64(s.SPort.Mask)<<32|uint64(s.DPort.Port)<<16|uint64(s.DPort.Mask),
		uint64(p.Priority)<<32|uint64(p.IfID), uint64(p.Mark.Value)<<32|uint64(p.Mark.Mask), uint64(p.Index)<<32|uint64(uint32(s.Ifindex)),
	)
	for i := range p.Templates {
		t := &p.Templates[i]
		b = append(b, byte(t.Proto), byte(t.Mode))
		if t.Optional {
			b[len(b)-1] |= 1 << 7
		}
		b = putAddr(putAddr(b, t.Src), t.Dst)
		b = put(b, uint64(t.Reqid))
	}
	return maphash.Bytes(j.seed, b)
}

// putAddr appends an address and how long it is.
func putAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		return append(append(b, 4), four[:]...)
	}
	sixteen := a.As16()
	return append(append(b, byte(a.BitLen())), sixteen[:]...)
}
