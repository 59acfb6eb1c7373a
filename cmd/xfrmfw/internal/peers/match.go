package peers

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// gone is how long a record without a tunnel is kept: a hook may be called
// before its tunnel is seen, and an IKE daemon may take a tunnel away for a
// moment.
const gone = 10 * time.Minute

// Peer is the other end of a tunnel.
type Peer struct {
	Connection string
	PeerID     string
	User       string
	// Identity is the peer's proven identity: the user, else the IKE identity.
	Identity   string
	VirtualIPs []netip.Addr
}

// Found is the records' answer on a set of tunnels.
type Found struct {
	// Peers has the known peers of tunnels, by their ID.
	Peers map[string]Peer
	// Several has the tunnels of which not one peer alone can be the other end,
	// as far as the records go; they are not in Peers.
	Several map[string][]Peer
	// Stale are records that have had no tunnel for long, or with a tunnel that is
	// another peer's by now.
	Stale []Record
}

// Match finds the tunnels that the records are about, at a time since the boot. A tunnel's peer is known
// only if the records are about all of its selectors, and agree: a peer gets no rights of
// another one because a record is missing or left over.
func Match(records []Record, set xfrm.Set, now time.Duration) Found {
	found := Found{Peers: make(map[string]Peer), Several: make(map[string][]Peer)}
	if len(records) == 0 {
		return found
	}
	index := indexPairs(set)
	byTunnel := make(map[int][]Record)
	for _, r := range records {
		used := make(map[int]bool)
		for _, reqid := range r.reqids() {
			for _, at := range index[pairKey{reqid, r.Local, r.Remote}] {
				if !used[at.tunnel] && r.fits(set.Tunnels[at.tunnel].Pairs[at.pair]) {
					used[at.tunnel] = true
					byTunnel[at.tunnel] = append(byTunnel[at.tunnel], r)
				}
			}
		}
		if len(used) == 0 && now-time.Duration(r.Time) > gone {
			found.Stale = append(found.Stale, r)
		}
	}
	for i, t := range set.Tunnels {
		if of := byTunnel[i]; len(of) > 0 {
			found.judge(t, of)
		}
	}
	return found
}

// judge decides on a tunnel's peer.
func (f *Found) judge(t xfrm.Tunnel, records []Record) {
	slices.SortFunc(records, func(a, b Record) int { return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.name(), b.name())) })
	newest := records[0].who()
	other := func(r Record) bool { return r.who() != newest }
	if slices.ContainsFunc(records, other) {
		// The newest holds if every state is its own. Records that the others left behind,
		// because their end was not told, must not come back when it moves.
		if !allFrom(t, records[0]) {
			f.Several[t.ID] = peersOf(records)
			return
		}
		for _, r := range records {
			if other(r) {
				f.Stale = append(f.Stale, r)
			}
		}
		records = slices.DeleteFunc(slices.Clone(records), other)
	}
	for _, p := range t.Pairs {
		if !slices.ContainsFunc(records, func(r Record) bool { return r.Local == p.Local && r.Remote == p.Remote && r.fits(p) }) {
			return
		}
	}
	f.Peers[t.ID] = peersOf(records)[0]
}

// allFrom reports whether all states of a tunnel lead to where the peer of the
// record was.
func allFrom(t xfrm.Tunnel, r Record) bool {
	for _, sa := range t.SAs {
		outer, port := sa.Dst, sa.Encap.DPort
		if sa.Inbound {
			outer, port = sa.Src, sa.Encap.SPort
		}
		if outer != r.Outer || port != r.OuterPort {
			return false
		}
	}
	return len(t.SAs) > 0
}

// peersOf lists the peers of the records, each once, with all virtual
// addresses.
func peersOf(records []Record) []Peer {
	var list []Peer
	at := make(map[who]int)
	for _, r := range records {
		i, ok := at[r.who()]
		if !ok {
			i = len(list)
			at[r.who()] = i
			list = append(list, Peer{Connection: r.Connection, PeerID: r.PeerID, User: r.User, Identity: r.Identity()})
		}
		for _, a := range r.VirtualIPs {
			if p := &list[i]; !slices.Contains(p.VirtualIPs, a) && len(p.VirtualIPs) < maxVirtualIPs {
				p.VirtualIPs = append(p.VirtualIPs, a)
			}
		}
	}
	for i := range list {
		slices.SortFunc(list[i].VirtualIPs, netip.Addr.Compare)
	}
	return list
}

// reqids are those that the record's states may have in the kernel. Libreswan
// keeps four numbers for each connection, of which it names the first: AH, ESP
// and IPComp have the first, second and third. Up to 0x3fff the administrator
// chose it, and all have the same.
func (r Record) reqids() []uint32 {
	const chosen = 0x3fff
	if r.Daemon == Libreswan && r.Reqid > chosen {
		return []uint32{r.Reqid, r.Reqid + 1, r.Reqid + 2}
	}
	return []uint32{r.Reqid}
}

// fits reports whether a pair with the record's prefixes can be its own.
func (r Record) fits(p xfrm.Pair) bool {
	if r.Proto != p.Proto {
		return false
	}
	if p.Proto == xfrm.ICMP || p.Proto == xfrm.ICMPv6 {
		return true // type and code, for which daemons have words of their own
	}
	return overlap(r.LocalPort, p.LocalPort) && overlap(r.RemotePort, p.RemotePort)
}

func overlap(ports Ports, match xfrm.PortMatch) bool {
	lo, hi, ok := match.Range()
	return !ok || match.Any() || ports == Ports{} || lo <= ports[1] && ports[0] <= hi
}

// pairKey finds pairs without looking at all of them.
type pairKey struct {
	reqid         uint32
	local, remote netip.Prefix
}

type pairSpot struct{ tunnel, pair int }

func indexPairs(set xfrm.Set) map[pairKey][]pairSpot {
	index := make(map[pairKey][]pairSpot)
	for i, t := range set.Tunnels {
		for j, p := range t.Pairs {
			key := pairKey{t.Reqid, p.Local, p.Remote}
			index[key] = append(index[key], pairSpot{i, j})
		}
	}
	return index
}
