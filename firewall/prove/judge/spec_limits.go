package judge

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// onWAN are the packets with an interface of the configured ones.
func (q *Packets) onWAN(device func(string) space.Set) space.Set {
	if len(q.WAN) == 0 {
		return space.All
	}
	sets := make([]space.Set, len(q.WAN))
	for i, name := range q.WAN {
		sets[i] = device(name)
	}
	return q.Union(sets...)
}

// IPsecOfHost are IKE, ESP and AH to and from this host.
func (q *Packets) IPsecOfHost() space.Set {
	local, port, device := q.RoutedDst, q.RoutedDPort, q.cameInBy
	switch q.Way {
	case firewall.Through:
		return space.None
	case firewall.FromHost:
		local, port, device = q.Src, q.SPort, q.GoesOutBy
	}
	udp := q.Union(q.Number(port, firewall.IKE), q.Number(port, firewall.NATT), q.encapPorts(local, port))
	return q.And(q.onWAN(device), q.Union(
		q.Number(q.Proto, uint64(xfrm.ESP)), q.Number(q.Proto, uint64(xfrm.AH)), q.And(q.Number(q.Proto, uint64(xfrm.UDP)), udp)))
}

// RestrictedIn are packets out of tunnels that have no such service in their in: list.
func (q *Packets) RestrictedIn() space.Set {
	if q.Way == firewall.FromHost {
		return space.None
	}
	result := space.None
	for i := range q.Restrictions {
		r := &q.Restrictions[i]
		if r.In == nil {
			continue
		}
		var of, small []space.Set
		for _, s := range r.Sources {
			of = append(of, q.And(q.cameOutOf(s.SA), q.LiesIn(q.Src, s.Prefix)))
		}
		for j := range r.Overlays {
			o := &r.Overlays[j]
			of = append(of, q.And(q.EvidenceOf(firewall.Case4), q.And(q.inAny(o.Devices), q.sends(o, q.Src))))
			if o.Sources != nil {
				of = append(of, q.Minus(q.cameInBy(o.Devices[0]), q.Or(q.Decrypted, q.EvidenceOf(firewall.Case4))))
			}
		}
		for j := range q.IPComp {
			if c := &q.IPComp[j]; c.Tunnel == r.Tunnel {
				small = append(small, q.And(q.And(q.single(q.Src, c.Remote), q.single(q.RoutedDst, c.Local)), q.Number(q.Proto, uint64(ipInIP(q.Family)))))
			}
		}
		result = q.Or(result, q.Minus(q.Union(of...), q.Or(q.allowed(r, r.In, q.Src, q.RoutedDst), q.Union(small...))))
	}
	return result
}

// RestrictedOut are packets into tunnels that have no such service in their out: list, or
// no such prefix in their remote: list.
func (q *Packets) RestrictedOut() space.Set {
	if q.Way == firewall.ToHost {
		return space.None
	}
	result := space.None
	for i := range q.Restrictions {
		r := &q.Restrictions[i]
		var into []space.Set
		for _, d := range r.Destinations {
			into = append(into, q.And(q.GoesInto(d.SA), q.LiesIn(q.RoutedDst, d.Prefix)))
		}
		for _, by := range r.Into {
			set := q.GoesOutBy(by.Device)
			if by.Remote.IsValid() {
				set = q.And(set, q.Minus(q.LiesIn(q.RoutedDst, by.Remote), q.LiesInAny(q.RoutedDst, by.Except)))
			}
			into = append(into, set)
		}
		not := space.None
		if r.Remote != nil {
			not = q.LiesInAny(q.RoutedDst, r.Remote).Not()
		}
		if r.Out != nil {
			not = q.Or(not, q.allowed(r, r.Out, q.RoutedDst, q.Src).Not())
		}
		result = q.Or(result, q.And(q.Union(into...), not))
	}
	return result
}

// allowed are replies, listed services, and the carriers of overlay devices' packets.
func (q *Packets) allowed(r *firewall.Restriction, services []firewall.Service, remote, local space.Classed) space.Set {
	sets := []space.Set{q.Bit(q.Related), q.Bit(q.Established), q.listed(services)}
	for i := range r.Overlays {
		o := &r.Overlays[i]
		if o.VTI {
			continue
		}
		set := q.And(q.And(q.single(remote, o.Remote), q.single(local, o.Local)), q.Number(q.Proto, uint64(o.Proto)))
		if o.Port != 0 {
			set = q.And(set, q.Number(q.RoutedDPort, uint64(o.Port)))
		}
		sets = append(sets, set)
	}
	return q.Union(sets...)
}

func (q *Packets) listed(services []firewall.Service) space.Set {
	var sets []space.Set
	for _, s := range services {
		if s.Proto == xfrm.ICMP {
			s.Proto = q.ICMP()
		}
		sets = append(sets, q.And(q.Number(q.Proto, uint64(s.Proto)), q.Ports(q.RoutedDPort, s.Ports)))
	}
	return q.Union(sets...)
}

// LetIn are verified packets, unless the verdict is another firewall's.
func (q *Packets) LetIn() space.Set {
	if q.Way == firewall.FromHost || q.MarkOnly {
		return space.None
	}
	return q.Verified
}

// NewFromStrangers are new unverified flows into a tunnel that takes any source (case 8e).
func (q *Packets) NewFromStrangers() space.Set {
	if q.Way != firewall.Through {
		return space.None
	}
	var sets []space.Set
	for _, s := range q.Strangers {
		into := space.None
		if s.Out != "" {
			into = q.GoesOutBy(s.Out)
		}
		if s.Remote.IsValid() {
			into = q.Or(into, q.And(q.Encrypted(), q.LiesIn(q.RoutedDst, s.Remote)))
		}
		sets = append(sets, q.And(q.cameInBy(s.In), into))
	}
	return q.Minus(q.Union(sets...), q.Union(q.Verified, q.Bit(q.Related), q.Bit(q.Established)))
}

// LetOut are packets that will be encrypted, or enter a tunnel device.
func (q *Packets) LetOut() space.Set { return q.Or(q.Encrypted(), q.intoDevice()) }

// UnderLockdown are packets in by a WAN interface under lockdown that nothing accepted
// before.
func (q *Packets) UnderLockdown() space.Set {
	if q.Lockdown == nil || q.Way == firewall.FromHost {
		return space.None
	}
	before := q.Verified
	if q.Way == firewall.Through {
		before = q.Or(before, q.Minus(q.LetOut(), q.NewFromStrangers()))
	}
	return q.Minus(q.onWAN(q.cameInBy), before)
}

// Services are the packets that lockdown lets in. A stranger into a tunnel is none of
// them.
func (q *Packets) Services() space.Set {
	toHost := space.TruthOf(q.Way == firewall.ToHost)
	udp := q.Number(q.Proto, uint64(xfrm.UDP))
	toClient := toHost
	if q.Family == xfrm.IPv4 {
		toClient = q.Or(toHost, q.single(q.RoutedDst, firewall.LimitedBroadcast()))
	}
	link := q.And(q.And(udp, toClient), q.And(q.Number(q.SPort, 67), q.Number(q.RoutedDPort, 68)))
	if q.Family == xfrm.IPv6 {
		link = q.Or(q.And(q.isICMP, q.Range(q.ICMPType, 133, 136)), q.And(toHost, q.And(udp, q.And(q.Number(q.SPort, 547), q.Number(q.RoutedDPort, 546)))))
	}
	listed := space.None
	if q.Lockdown != nil {
		listed = q.And(toHost, q.listed(q.Lockdown.Services))
	}
	return q.And(q.Minus(q.UnderLockdown(), q.NewFromStrangers()), q.Union(q.Bit(q.Related), q.Bit(q.Established), link, listed))
}
