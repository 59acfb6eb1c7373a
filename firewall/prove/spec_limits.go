package prove

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// onWAN are the packets with an interface of the configured ones.
func (q *spec) onWAN(device func(string) Set) Set {
	if len(q.WAN) == 0 {
		return All
	}
	sets := make([]Set, len(q.WAN))
	for i, name := range q.WAN {
		sets[i] = device(name)
	}
	return q.Union(sets...)
}

// ipsecOfHost are IKE, ESP and AH to and from this host.
func (q *spec) ipsecOfHost() Set {
	local, port, device := q.routedDst, q.routedDPort, q.cameInBy
	switch q.way {
	case firewall.Through:
		return None
	case firewall.FromHost:
		local, port, device = q.src, q.sport, q.goesOutBy
	}
	udp := q.Union(q.number(port, firewall.IKE), q.number(port, firewall.NATT), q.encapPorts(local, port))
	return q.And(q.onWAN(device), q.Union(
		q.number(q.proto, uint64(xfrm.ESP)), q.number(q.proto, uint64(xfrm.AH)), q.And(q.number(q.proto, uint64(xfrm.UDP)), udp)))
}

// restrictedIn are packets out of tunnels that have no such service in their in: list.
func (q *spec) restrictedIn() Set {
	if q.way == firewall.FromHost {
		return None
	}
	result := None
	for i := range q.Restrictions {
		r := &q.Restrictions[i]
		if r.In == nil {
			continue
		}
		var of []Set
		for _, s := range r.Sources {
			of = append(of, q.And(q.cameOutOf(s.SA), q.within(q.src, s.Prefix)))
		}
		for j := range r.Overlays {
			o := &r.Overlays[j]
			of = append(of, q.And(q.evidenceOf(firewall.Case4), q.And(q.inAny(o.Devices), q.sends(o, q.src))))
			if o.Sources != nil {
				of = append(of, q.Minus(q.cameInBy(o.Devices[0]), q.Or(q.decrypted, q.evidenceOf(firewall.Case4))))
			}
		}
		result = q.Or(result, q.Minus(q.Union(of...), q.allowed(r, r.In, q.src, q.routedDst)))
	}
	return result
}

// restrictedOut are packets into tunnels that have no such service in their out: list, or
// no such prefix in their remote: list.
func (q *spec) restrictedOut() Set {
	if q.way == firewall.ToHost {
		return None
	}
	result := None
	for i := range q.Restrictions {
		r := &q.Restrictions[i]
		var into []Set
		for _, d := range r.Destinations {
			into = append(into, q.And(q.goesInto(d.SA), q.within(q.routedDst, d.Prefix)))
		}
		for _, by := range r.Into {
			set := q.goesOutBy(by.Device)
			if by.Remote.IsValid() {
				set = q.And(set, q.Minus(q.within(q.routedDst, by.Remote), q.withinAny(q.routedDst, by.Except)))
			}
			into = append(into, set)
		}
		not := None
		if r.Remote != nil {
			not = q.withinAny(q.routedDst, r.Remote).Not()
		}
		if r.Out != nil {
			not = q.Or(not, q.allowed(r, r.Out, q.routedDst, q.src).Not())
		}
		result = q.Or(result, q.And(q.Union(into...), not))
	}
	return result
}

// allowed are replies, listed services, and the carriers of overlay devices' packets.
func (q *spec) allowed(r *firewall.Restriction, services []firewall.Service, remote, local field) Set {
	sets := []Set{q.Bit(q.related), q.Bit(q.established), q.listed(services)}
	for i := range r.Overlays {
		o := &r.Overlays[i]
		if o.VTI {
			continue
		}
		set := q.And(q.And(q.single(remote, o.Remote), q.single(local, o.Local)), q.number(q.proto, uint64(o.Proto)))
		if o.Port != 0 {
			set = q.And(set, q.number(q.routedDPort, uint64(o.Port)))
		}
		sets = append(sets, set)
	}
	return q.Union(sets...)
}

func (q *spec) listed(services []firewall.Service) Set {
	var sets []Set
	for _, s := range services {
		if s.Proto == xfrm.ICMP {
			s.Proto = q.icmp()
		}
		sets = append(sets, q.And(q.number(q.proto, uint64(s.Proto)), q.ports(q.routedDPort, s.Ports)))
	}
	return q.Union(sets...)
}

// letIn are verified packets, unless the verdict is another firewall's.
func (q *spec) letIn() Set {
	if q.way == firewall.FromHost || q.MarkOnly {
		return None
	}
	return q.verified
}

// strangers are new unverified flows into a tunnel that takes any source (case 8e).
func (q *spec) strangers() Set {
	if q.way != firewall.Through {
		return None
	}
	var sets []Set
	for _, s := range q.Strangers {
		into := None
		if s.Out != "" {
			into = q.goesOutBy(s.Out)
		}
		if s.Remote.IsValid() {
			into = q.Or(into, q.And(q.encrypted(), q.within(q.routedDst, s.Remote)))
		}
		sets = append(sets, q.And(q.cameInBy(s.In), into))
	}
	return q.Minus(q.Union(sets...), q.Union(q.verified, q.Bit(q.related), q.Bit(q.established)))
}

// letOut are packets that will be encrypted, or enter a tunnel device.
func (q *spec) letOut() Set { return q.Or(q.encrypted(), q.intoDevice()) }

// underLockdown are packets in by a WAN interface under lockdown that nothing accepted
// before.
func (q *spec) underLockdown() Set {
	if q.Lockdown == nil || q.way == firewall.FromHost {
		return None
	}
	before := q.verified
	if q.way == firewall.Through {
		before = q.Or(before, q.Minus(q.letOut(), q.strangers()))
	}
	return q.Minus(q.onWAN(q.cameInBy), before)
}

// services are the packets that lockdown lets in. A stranger into a tunnel is none of
// them.
func (q *spec) services() Set {
	toHost := truthOf(q.way == firewall.ToHost)
	udp := q.number(q.proto, uint64(xfrm.UDP))
	toClient := toHost
	if q.Family == xfrm.IPv4 {
		toClient = q.Or(toHost, q.single(q.routedDst, firewall.LimitedBroadcast()))
	}
	link := q.And(q.And(udp, toClient), q.And(q.number(q.sport, 67), q.number(q.routedDPort, 68)))
	if q.Family == xfrm.IPv6 {
		link = q.Or(q.And(q.isICMP, q.Range(q.icmpType, 133, 136)), q.And(toHost, q.And(udp, q.And(q.number(q.sport, 547), q.number(q.routedDPort, 546)))))
	}
	listed := None
	if q.Lockdown != nil {
		listed = q.And(toHost, q.listed(q.Lockdown.Services))
	}
	return q.And(q.Minus(q.underLockdown(), q.strangers()), q.Union(q.Bit(q.related), q.Bit(q.established), link, listed))
}
