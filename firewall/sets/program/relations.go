package program

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// relations are the pairs of one family that rules look up.
type relations struct {
	claims, bare *relation
	owners       []owners
	// ranks are the guards in order, exceptions of a rank before its guards.
	ranks []rank
	// gates are the few prefixes that hold all remote prefixes.
	gates []netip.Prefix
	// peers are own peers inside their own remote selector, with the protocol and the ports
	// of their pair, and strippedPeers without: an ICMP error has its own protocol.
	peers, strippedPeers *relation
	// ipcomp are the carriers of small packets beside IPComp (case 1c).
	ipcomp *relation
	// keep is traffic that other rules may translate.
	keep *relation
}

// rank is the exceptions and guards of one rank.
type rank struct {
	exceptions
	// marked are the exceptions for packets with a mark.
	marked []markedExceptions
	guards *relation
	// remotes are the remote prefixes of guards (case 8c).
	remotes *relation
	// beside are guards over connected networks, which keep their traffic.
	beside *relation
	// stripped are guards of one protocol, without it: an ICMP error about a flow of
	// theirs has another.
	stripped *relation
	// down are guards that the destination alone decides outbound (case 8d).
	down, downBeside *relation
}

// exceptions are those of a rank by direction.
type exceptions struct{ in, fwd, out *relation }

type markedExceptions struct {
	mark xfrm.Mark
	exceptions
}

// relations makes the sets of one family.
func (b *builder) relations(f *family) *relations {
	r := &relations{owners: b.ownerSets(f)}
	var claims, bare []pair
	for i := range b.f.Claims {
		c := &b.f.Claims[i]
		if !f.has(c.Pair.Remote.Addr()) {
			continue
		}
		p := selectors(c.Pair)
		p.reqid, p.outer, p.comment = c.In.Reqid, c.In.Src, c.Tunnel
		if c.PolicyOnly {
			bare = append(bare, p)
		} else {
			claims = append(claims, p)
		}
	}
	r.claims = b.relate(relation{name: "c", comment: "cases 1 to 3: packets out of a tunnel", withSA: true, counter: true, opens: true}, f, claims)
	r.bare = b.relate(relation{name: "bare", comment: "case 2: packets out of a tunnel, without the bits", withSA: true, counter: true, opens: true}, f, bare)
	r.ipcomp = b.carriersBesideIPComp(f)
	b.guards(f, r)
	var keep []pair
	for i := range b.f.NATKeep {
		if k := &b.f.NATKeep[i]; f.has(k.Remote.Addr()) {
			keep = append(keep, pair{reqid: k.Out.Reqid, outer: k.Out.Dst, remote: k.Remote, local: k.Local, comment: k.Tunnel})
		}
	}
	r.keep = b.relate(relation{name: "keep", comment: "nat: keep", outward: true, opens: true}, f, keep)
	b.lan(f)
	b.sources(f)
	refused := sets.Set{Name: "refused" + f.suffix, Comment: "case 8: flows that left in clear, for 10 s", Dynamic: true, Size: 4096, Timeout: refusedFor}
	b.set(refused, f.origSrc, f.dst, sets.L4Proto, sets.SrcPort)
	return r
}

// guards makes the sets of guards and exceptions.
func (b *builder) guards(f *family, r *relations) {
	type directions struct{ in, fwd, out []pair }
	type lists struct {
		directions
		marked                                              map[xfrm.Mark]*directions
		guards, remotes, beside, stripped, down, downBeside []pair
	}
	var all []lists
	var remotes, peers, strippedPeers []pair
	order := ranks(b.f.Guards)
	for i := range b.f.Guards {
		g := &b.f.Guards[i]
		if !f.has(g.Remote.Addr()) {
			continue
		}
		for len(all) <= order[i] {
			all = append(all, lists{})
		}
		l := &all[order[i]]
		p := selectors(xfrm.Pair{Local: g.Local, Remote: g.Remote, Proto: g.Proto, LocalPort: g.LocalPort, RemotePort: g.RemotePort})
		p.comment = g.Tunnel
		if g.Exception {
			by := &l.directions
			if g.Mark.Mask != 0 {
				if l.marked == nil {
					l.marked = make(map[xfrm.Mark]*directions)
				}
				if by = l.marked[g.Mark]; by == nil {
					by = new(directions)
					l.marked[g.Mark] = by
				}
			}
			for _, d := range []struct {
				dir  xfrm.Dir
				list *[]pair
			}{{xfrm.In, &by.in}, {xfrm.Fwd, &by.fwd}, {xfrm.Out, &by.out}} {
				if g.Dirs&(1<<d.dir) != 0 {
					*d.list = append(*d.list, p)
				}
			}
			continue
		}
		remote := pair{remote: p.remote, local: netip.PrefixFrom(p.local.Addr(), 0).Masked(), comment: p.comment}
		remotes, l.remotes = append(remotes, remote), append(l.remotes, remote)
		guards, down := &l.guards, &l.down
		if len(g.Exempt) > 0 {
			guards, down = &l.beside, &l.downBeside
			if g.Peer.IsValid() && g.Remote.Contains(g.Peer) {
				peer := p
				peer.remote = single(g.Peer)
				peers = append(peers, peer)
				strippedPeers = append(strippedPeers, pair{remote: peer.remote, local: p.local, comment: p.comment})
			}
		}
		*guards = append(*guards, p)
		if p.proto != 0 {
			l.stripped = append(l.stripped, pair{remote: p.remote, local: p.local, comment: p.comment})
		}
		if g.ByDestination {
			d := p
			d.local, d.lport = netip.PrefixFrom(p.local.Addr(), 0).Masked(), ports{}
			*down = append(*down, d)
		}
	}
	make := func(name string, k int, pairs []pair) *relation {
		return b.relate(relation{name: fmt.Sprintf("%s%d_", name, k), comment: guardComment(name), opens: name[0] == 'p'}, f, pairs)
	}
	for k, l := range all {
		var marked []markedExceptions
		for _, m := range slices.SortedFunc(maps.Keys(l.marked), func(x, y xfrm.Mark) int {
			return cmp.Or(cmp.Compare(x.Value, y.Value), cmp.Compare(x.Mask, y.Mask))
		}) {
			name := func(kind string) string { return fmt.Sprintf("%sm%x_%x_", kind, m.Value, m.Mask) }
			by := l.marked[m]
			marked = append(marked, markedExceptions{m, exceptions{in: make(name("pi"), k, by.in), fwd: make(name("pf"), k, by.fwd), out: make(name("po"), k, by.out)}})
		}
		r.ranks = append(r.ranks, rank{
			exceptions: exceptions{in: make("pi", k, l.in), fwd: make("pf", k, l.fwd), out: make("po", k, l.out)}, marked: marked,
			guards: make("g", k, l.guards), remotes: make("rem", k, l.remotes), beside: make("gl", k, l.beside), stripped: make("ge", k, l.stripped),
			down: make("d", k, l.down), downBeside: make("dl", k, l.downBeside),
		})
	}
	r.peers = b.relate(relation{name: "peer", comment: "a tunnel's own peer, within its remote"}, f, peers)
	r.strippedPeers = r.peers
	if slices.ContainsFunc(peers, func(p pair) bool { return p.proto != 0 }) {
		r.strippedPeers = b.relate(relation{name: "peere", comment: "a tunnel's own peer, within its remote, for ICMP errors"}, f, strippedPeers)
	}
	r.gates = b.gates(f, remotes)
}

// guardComment is the comment of the sets of a kind of guards or exceptions.
func guardComment(kind string) string {
	switch kind {
	case "g":
		return "cases 6 and 8: guarded pairs"
	case "rem":
		return "case 8c: guarded, for ICMP errors about no flow"
	case "gl":
		return "cases 6 and 8: guarded pairs over connected networks"
	case "ge":
		return "case 8c: guarded pairs of one protocol, for ICMP errors"
	case "d":
		return "case 8d: guarded from any source"
	case "dl":
		return "case 8d: guarded from any source, over connected networks"
	}
	return map[string]string{"pi": "exceptions, to this host", "pf": "exceptions, forwarded", "po": "exceptions, outbound"}[kind[:2]]
}

// selectors turns a pair of selectors to a pair of a relation.
func selectors(p xfrm.Pair) pair {
	out := pair{remote: p.Remote.Masked(), local: p.Local.Masked(), proto: p.Proto}
	switch p.Proto {
	case xfrm.ICMP, xfrm.ICMPv6:
		if first, last, ok := p.LocalPort.Range(); ok && !p.LocalPort.Any() {
			out.hasType, out.types = true, ports{first, min(last, 255)}
			out.never = first > 255
		}
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP, 136, 33:
		if first, last, ok := p.LocalPort.Range(); ok {
			out.lport = ports{first, last}
		}
		if first, last, ok := p.RemotePort.Range(); ok {
			out.rport = ports{first, last}
		}
	}
	return out
}

// lan makes the set of the connected networks that guards spare.
func (b *builder) lan(f *family) {
	s := sets.Set{Name: "lan" + f.suffix, Comment: "connected networks keep their traffic", Interval: true, Opens: true}
	var seen []owned
	for i := range b.f.Guards {
		seen = append(seen, unowned(f, b.f.Guards[i].Exempt)...)
	}
	s.Elements = networkElements(seen)
	b.set(s, sets.InName, f.src)
}

// refusedFor is how long the senders of a flow that leaked are told.
const refusedFor = 10 * time.Second
