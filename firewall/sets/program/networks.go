package program

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// owned is a network, with the tunnel that its element is counted for, empty for none.
type owned struct {
	firewall.Network
	tunnel string
}

// span is addresses of one device, from first to last.
type span struct {
	device, tunnel string
	first, last    netip.Addr
}

// unowned are the networks of a family, of which no tunnel is told.
func unowned(f *family, networks []firewall.Network) []owned {
	var list []owned
	for _, n := range networks {
		if f.has(n.Prefix.Addr()) {
			list = append(list, owned{Network: n})
		}
	}
	return list
}

// networkElements are the ranges of networks, each with its device.
func networkElements(networks []owned) []sets.Element {
	var elements []sets.Element
	for _, s := range spans(networks) {
		device := sets.Name(s.device)
		elements = append(elements, sets.Element{
			Key: sets.KeyOf(device, sets.Addr(s.first)), Last: sets.KeyOf(device, sets.Addr(s.last)), Comment: s.tunnel,
		})
	}
	return elements
}

// ranges are those of networks of any device.
func ranges(networks []owned) []sets.Element {
	var elements []sets.Element
	for _, s := range spans(networks) {
		elements = append(elements, sets.Element{Key: sets.KeyOf(sets.Addr(s.first)), Last: sets.KeyOf(sets.Addr(s.last))})
	}
	return elements
}

// spans parts the networks of one family so that none overlap, because the kernel refuses
// ranges that do. A network within another one of its device is part of it if both are of
// one tunnel, else it is cut out. The same network of several tunnels is of none.
func spans(networks []owned) []span {
	list := slices.Clone(networks)
	for i := range list {
		list[i].Prefix = list[i].Prefix.Masked()
	}
	same := func(a, b owned) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), xfrm.ComparePrefix(a.Prefix, b.Prefix))
	}
	slices.SortFunc(list, same)
	var out []span
	var around []owned  // the networks around next, the widest first
	var next netip.Addr // the first address behind the last span, invalid behind the last of all
	end := func() {
		n := around[len(around)-1]
		around = around[:len(around)-1]
		if last := sets.LastAddr(n.Prefix); next.IsValid() && !last.Less(next) {
			out = append(out, span{n.Device, n.tunnel, next, last})
			next = last.Next()
		}
	}
	for i := 0; i < len(list); {
		n := list[i]
		for i++; i < len(list) && same(n, list[i]) == 0; i++ {
			if list[i].tunnel != n.tunnel {
				n.tunnel = ""
			}
		}
		for len(around) > 0 && !around[len(around)-1].holds(n.Network) {
			end()
		}
		if len(around) > 0 {
			o := around[len(around)-1]
			if o.tunnel == n.tunnel {
				continue
			}
			if first := n.Prefix.Addr(); next.Less(first) {
				out = append(out, span{o.Device, o.tunnel, next, first.Prev()})
			}
		}
		around, next = append(around, n), n.Prefix.Addr()
	}
	for len(around) > 0 {
		end()
	}
	return out
}

// holds reports whether another network begins in this one.
func (o owned) holds(n firewall.Network) bool {
	return o.Device == n.Device && o.Prefix.Contains(n.Prefix.Addr())
}
