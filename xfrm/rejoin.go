package xfrm

import "maps"

// changed finds the groups that are not as they were, and counts them.
func (j *Joiner) changed() int {
	n := 0
	for i := range j.groups {
		g := &j.groups[i]
		same := !g.changed && g.sum == g.sumNow && g.tunnel != several && len(j.unserved[g.reqid]) == 0
		if same && g.tunnel >= 0 {
			n := len(j.set.Tunnels[g.tunnel].SAs)
			same = n == int(g.states) && n <= 64 && g.found == 1<<n-1
		}
		if g.changed = !same; g.changed {
			n++
		}
	}
	return n
}

// rejoin joins the records of the groups that have changed. It reports false if names
// of tunnels may depend on those of others.
func (j *Joiner) rejoin(s Snapshot) bool {
	if !j.uniqueIDs {
		return false
	}
	anew := join(j.part(s))
	if !anew.uniqueIDs {
		return false
	}
	names := make(map[string]bool, len(anew.tunnels))
	for i := range anew.tunnels {
		names[anew.tunnels[i].ID] = true
	}
	n := len(j.set.Tunnels) + len(anew.tunnels)
	tunnels, groups := make([]Tunnel, 0, n), make([]int32, 0, n)
	rest := anew.tunnels
	add := func() {
		tunnels, groups, rest = append(tunnels, rest[0]), append(groups, j.index[rest[0].Reqid]), rest[1:]
	}
	for i := range j.set.Tunnels {
		t := &j.set.Tunnels[i]
		if j.groups[j.ofTunnels[i]].changed {
			continue
		}
		if names[t.ID] {
			return false
		}
		for len(rest) > 0 && compareTunnels(rest[0], *t) < 0 {
			add()
		}
		tunnels, groups = append(tunnels, *t), append(groups, j.ofTunnels[i])
	}
	for len(rest) > 0 {
		add()
	}
	j.set.Tunnels, j.ofTunnels = tunnels, groups
	j.unserved = maps.Clone(j.unserved)
	empty := 0
	for i := range j.groups {
		g := &j.groups[i]
		if g.changed {
			delete(j.unserved, g.reqid)
		}
		if g.policies == 0 && g.states == 0 {
			empty++
		}
	}
	maps.Copy(j.unserved, anew.unserved)
	if empty > len(j.groups)/8+64 {
		j.commit()
	} else {
		j.place()
	}
	return true
}

// part is the records of the groups that have changed.
func (j *Joiner) part(s Snapshot) Snapshot {
	part := s
	part.Policies, part.States = nil, nil
	for i, at := range j.policies.now {
		if at != none && j.groups[at].changed {
			part.Policies = append(part.Policies, s.Policies[i])
		}
	}
	for i, at := range j.states.now {
		if at != none && j.groups[at].changed {
			part.States = append(part.States, s.States[i])
		}
	}
	return part
}
