package program

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// deviceNames are the interfaces into which only tunnel traffic goes; xfrmDevices are
// those of them out of which packets come with their security path.
func (b *builder) deviceNames() []string {
	return b.devices(func(firewall.Device) bool { return true })
}

func (b *builder) xfrmDevices() []string {
	return b.devices(func(d firewall.Device) bool { return d.Xfrm })
}

func (b *builder) devices(fits func(firewall.Device) bool) []string {
	var names []string
	for _, d := range b.f.Devices {
		if fits(d) {
			names = append(names, d.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// overlayDevices are the devices with packets that keep the evidence of their carrier,
// and the VTIs: their packets carry TAG.
func (b *builder) overlayDevices() (carried, vtis []string) {
	for i := range b.f.Overlays {
		o := &b.f.Overlays[i]
		if o.VTI {
			vtis = append(vtis, o.Devices...)
		} else {
			carried = append(carried, o.Devices...)
		}
	}
	compact := func(names []string) []string {
		slices.SortFunc(names, strings.Compare)
		return slices.Compact(names)
	}
	return compact(carried), compact(vtis)
}

// maxDepth is how many SAs a packet may have come out of (XFRM_MAX_DEPTH is 6, and
// a policy match of iptables knows four).
const maxDepth = 4

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// untold are the devices with an overlay of which any source may send, so that no packet
// out of them is told by its source.
func (b *builder) untold() map[string]bool {
	untold := make(map[string]bool)
	for i := range b.f.Overlays {
		if o := &b.f.Overlays[i]; o.Sources == nil {
			for _, device := range o.Devices {
				untold[device] = true
			}
		}
	}
	return untold
}

// sources adds the addresses that packets out of overlay devices may have, which count the
// packets of each tunnel. Of tunnels that share a device, the one with the narrowest network
// around an address counts, and none where several have the same.
func (b *builder) sources(f *family) {
	s := sets.Set{Name: outOf(f), Comment: "case 4: packets out of devices, by source", Interval: true, Counter: true, Opens: true}
	untold := b.untold()
	var all []owned
	for i := range b.f.Overlays {
		o := &b.f.Overlays[i]
		for _, device := range o.Devices {
			if untold[device] {
				continue
			}
			for _, p := range o.Sources {
				if f.has(p.Addr()) {
					all = append(all, owned{firewall.Network{Prefix: p, Device: device}, o.Tunnel})
				}
			}
		}
	}
	s.Elements = networkElements(all)
	b.set(s, sets.InName, f.src)
}

// outOf names the set of sources on overlay devices.
func outOf(f *family) string { return "out_of" + f.suffix }

// ownMACs adds the link-layer addresses of this host, of which passedOn is the reverse.
func (b *builder) ownMACs() {
	s := sets.Set{Name: "own_mac", Comment: "link-layer addresses of this host"}
	for _, m := range b.f.MACs {
		s.Elements = append(s.Elements, sets.Element{Key: sets.KeyOf(sets.Ether(m))})
	}
	b.set(s, sets.EtherDst)
}

// passedOn spares frames that a bridge passes on to others. This host does not route them,
// but where DNAT leads them to it (br_nf_pre_routing_finish).
func (b *builder) passedOn() []sets.Rule {
	if len(b.f.Bridges) == 0 {
		return nil
	}
	return []sets.Rule{rule("a bridge passes it on", named(sets.InName, b.f.Bridges),
		sets.In{Fields: field(sets.EtherDst), Not: true, Set: "own_mac"},
		sets.NoBit(sets.CtStatus, sets.DNATed),
		sets.Match{Field: sets.F(sets.FibDstType), Op: sets.Neq, Value: sets.Number(sets.F(sets.FibDstType).Type(), sets.Local)}, back)}
}
