package space

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Values are those that rules and questions ask for. The order of a list and repetitions in
// it have no meaning.
type Values struct {
	// Names are interfaces.
	Names []string
	// Addresses are those of packets and flows, Outer those of SAs, of either family. A reqid
	// has the form of an IPv4 address.
	Addresses, Outer, Reqids []netip.Prefix
}

// Add adds the values of another question.
func (v *Values) Add(o Values) {
	v.Names = append(slices.Clip(v.Names), o.Names...)
	v.Addresses = append(slices.Clip(v.Addresses), o.Addresses...)
	v.Outer = append(slices.Clip(v.Outer), o.Outer...)
	v.Reqids = append(slices.Clip(v.Reqids), o.Reqids...)
}

// Address adds addresses of packets. Those that are not valid stand for none.
func (v *Values) Address(list ...netip.Addr) {
	for _, a := range list {
		if a.IsValid() {
			v.Addresses = append(v.Addresses, prefix.Single(a.WithZone("")))
		}
	}
}

// Prefix adds prefixes of addresses of packets. The zero prefix stands for none.
func (v *Values) Prefix(list ...netip.Prefix) {
	for _, p := range list {
		if p.IsValid() {
			v.Addresses = append(v.Addresses, p)
		}
	}
}

// SA adds the values of an SA. Addresses that are not valid stand for none.
func (v *Values) SA(reqid uint32, ends ...netip.Addr) {
	v.Reqids = append(v.Reqids, numberPrefix(reqid))
	for _, a := range ends {
		if a.IsValid() {
			v.Outer = append(v.Outer, prefix.Single(a))
		}
	}
}

// everyHost are the values that are asked for on each host.
var everyHost = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// factsValues are the values that facts hold.
func factsValues(f *firewall.Facts) Values {
	v := Values{Addresses: slices.Clone(everyHost)}
	sa := func(list ...firewall.SAMatch) {
		for _, m := range list {
			v.SA(m.Reqid, m.Src, m.Dst)
		}
	}
	networks := func(list []firewall.Network) {
		for _, n := range list {
			v.Prefix(n.Prefix)
		}
	}
	overlays := func(list []firewall.Overlay) {
		for i := range list {
			v.Address(list[i].Local, list[i].Remote)
			v.Prefix(list[i].Sources...)
			sa(list[i].In)
		}
	}
	for i := range f.Claims {
		c := &f.Claims[i]
		v.Prefix(c.Pair.Local, c.Pair.Remote)
		sa(c.In, c.Out)
	}
	for _, k := range f.Known {
		v.SA(k.Reqid, k.Outer)
	}
	for i := range f.IPComp {
		v.Address(f.IPComp[i].Local, f.IPComp[i].Remote)
		sa(f.IPComp[i].In)
	}
	overlays(f.Overlays)
	for _, o := range f.OpenDevices {
		v.Address(o.Local)
	}
	for i := range f.Guards {
		g := &f.Guards[i]
		v.Prefix(g.Local, g.Remote)
		v.Address(g.Peer)
		v.Prefix(g.Locals...)
		networks(g.Exempt)
	}
	networks(f.Connected)
	networks(f.Homes)
	networks(f.Inside)
	v.Prefix(f.Behind...)
	v.Prefix(f.PartlyBehind...)
	for _, at := range f.EncapPorts {
		v.Address(at.Addr())
	}
	for _, o := range f.Untagged {
		v.Address(o.Peer, o.Local)
	}
	for i := range f.Restrictions {
		r := &f.Restrictions[i]
		v.Prefix(r.Remote...)
		for _, p := range slices.Concat(r.Sources, r.Destinations) {
			v.Prefix(p.Prefix)
			sa(p.SA)
		}
		overlays(r.Overlays)
		for _, by := range r.Into {
			v.Prefix(by.Remote)
			v.Prefix(by.Except...)
		}
	}
	for _, s := range f.Strangers {
		v.Prefix(s.Remote)
	}
	for _, k := range f.NATKeep {
		v.Prefix(k.Local, k.Remote)
		sa(k.Out)
	}
	return v
}

// classes divides outer addresses, reqids and addresses of packets of a family.
func (v *Values) classes(family xfrm.Family) (outer, reqids, addresses *classes) {
	root := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if family == xfrm.IPv6 {
		root = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	var inner, outside []netip.Prefix
	for _, p := range v.Addresses {
		if xfrm.FamilyOf(p.Addr()) == family {
			inner = append(inner, p)
		}
	}
	for _, p := range v.Outer {
		outside = append(outside, outerIn(p, family))
		if p.IsSingleIP() {
			outside = append(outside, prefix.Single(prefix.InFamily(p.Addr(), family)))
		}
	}
	return newClasses(root, outside), newClasses(netip.PrefixFrom(netip.IPv4Unspecified(), 0), v.Reqids), newClasses(root, inner)
}

// outerIn returns a prefix of outer addresses as nftables compares it around packets of a
// family: of an address of the other family it sees the first four bytes.
func outerIn(p netip.Prefix, family xfrm.Family) netip.Prefix {
	if xfrm.FamilyOf(p.Addr()) == family {
		return p
	}
	return netip.PrefixFrom(prefix.InFamily(p.Addr(), family), min(p.Bits(), 32))
}
