// Package sample has the gateways of the tests, as snapshots: a host, and sites
// with the states and policies that an IKE daemon installs.
//
// It lies below xfrm, because tests of firewall, of cmd/xfrmfw and of test/bench
// build on it, and no internal folder is common to them. Programs do not import
// it.
package sample

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Site is a tunnel. The zero value of a field is that of most tunnels; Local,
// Remote and Pairs are always given.
type Site struct {
	Reqid uint32
	// Local and Remote are the outer addresses.
	Local, Remote string
	// Pairs are the networks inside: local, remote.
	Pairs [][2]string
	// Mode is the encapsulation; Transport stands for transport mode: its
	// number is the zero value.
	Mode      xfrm.Mode
	Transport bool
	// Comp has IPComp come before ESP.
	Comp bool
	// Proto and Port limit the selectors: a protocol, and a port of this end.
	Proto xfrm.Proto
	Port  uint16
	// Priority is the policies'; 0 is 1000.
	Priority uint32
	IfID     uint32
	// Mark is the policies'.
	Mark xfrm.Mark
	// Down leaves only the policies, as of a trap or of a tunnel that was lost.
	Down bool
	// Rekeys is how many older pairs of states stand beside the newest.
	Rekeys int
	// Tune changes the states, which come in pairs of inbound and outbound;
	// rekey counts the pairs from 0, the oldest.
	Tune func(s *xfrm.State, inbound bool, rekey int)
}

func (s Site) mode() xfrm.Mode {
	if s.Mode == 0 && !s.Transport {
		return xfrm.TunnelMode
	}
	return s.Mode
}

// Policies are those of all pairs: in, fwd and out for each.
func (s Site) Policies() []xfrm.Policy {
	var list []xfrm.Policy
	local, remote := netip.MustParseAddr(s.Local), netip.MustParseAddr(s.Remote)
	port := xfrm.PortMatch{}
	if s.Port != 0 {
		port = xfrm.PortMatch{Port: s.Port, Mask: 0xffff}
	}
	for _, pair := range s.Pairs {
		l, r := netip.MustParsePrefix(pair[0]), netip.MustParsePrefix(pair[1])
		for _, dir := range []xfrm.Dir{xfrm.In, xfrm.Fwd, xfrm.Out} {
			p := xfrm.Policy{
				Dir: dir, Priority: s.Priority, IfID: s.IfID, Mark: s.Mark, Templates: s.templates(remote, local),
				Selector: xfrm.Selector{Family: Family(l.Addr()), Src: r, Dst: l, Proto: s.Proto, DPort: port},
			}
			if p.Priority == 0 {
				p.Priority = 1000
			}
			if dir == xfrm.Out {
				p.Selector = xfrm.Selector{Family: Family(l.Addr()), Src: l, Dst: r, Proto: s.Proto, SPort: port}
				p.Templates = s.templates(local, remote)
			}
			list = append(list, p)
		}
	}
	return list
}

func (s Site) templates(src, dst netip.Addr) []xfrm.Template {
	esp := xfrm.Template{Family: Family(src), Src: src, Dst: dst, Proto: xfrm.ESP, Mode: s.mode(), Reqid: s.Reqid}
	if s.Comp {
		comp := esp
		comp.Proto = xfrm.Comp
		esp.Mode = xfrm.TransportMode
		return []xfrm.Template{comp, open(esp)}
	}
	if esp.Mode == xfrm.TransportMode {
		esp = open(esp)
	}
	return []xfrm.Template{esp}
}

// open leaves a template's addresses unspecified.
func open(t xfrm.Template) xfrm.Template {
	t.Src, t.Dst = netip.IPv4Unspecified(), netip.IPv4Unspecified()
	if t.Family == xfrm.IPv6 {
		t.Src, t.Dst = netip.IPv6Unspecified(), netip.IPv6Unspecified()
	}
	return t
}

// States are a pair for each rekey and one for now; SPIs count up from
// 0xc0000000 and differ between sites of different reqids.
func (s Site) States() []xfrm.State {
	if s.Down {
		return nil
	}
	var list []xfrm.State
	local, remote := netip.MustParseAddr(s.Local), netip.MustParseAddr(s.Remote)
	for rekey := range s.Rekeys + 1 {
		for i, ends := range [][2]netip.Addr{{remote, local}, {local, remote}} {
			state := xfrm.State{
				Family: Family(local), Src: ends[0], Dst: ends[1], SPI: 0xc0000000 + s.Reqid<<8 + uint32(2*rekey+i),
				Proto: xfrm.ESP, Mode: s.mode(), Reqid: s.Reqid, IfID: s.IfID, Algs: xfrm.Algs{AEAD: "rfc4106(gcm(aes))"},
			}
			if s.Comp {
				state.Mode = xfrm.TransportMode
			}
			if s.Tune != nil {
				s.Tune(&state, i == 0, rekey)
			}
			list = append(list, state)
		}
	}
	return list
}

// Snapshot is a reading of a host with those sites.
func Snapshot(host xfrm.Host, sites ...Site) xfrm.Snapshot {
	s := xfrm.Snapshot{Schema: xfrm.SchemaVersion, Host: host}
	for _, site := range sites {
		s.Policies = append(s.Policies, site.Policies()...)
		s.States = append(s.States, site.States()...)
	}
	return s
}

// Family is that of an address.
func Family(a netip.Addr) xfrm.Family {
	if a.Is4() {
		return xfrm.IPv4
	}
	return xfrm.IPv6
}
