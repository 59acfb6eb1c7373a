package program

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// strangerFlows leaves new flows from outside unmarked that would enter a tunnel
// which takes any source (case 8e), and drops them where lockdown holds.
func (b *builder) strangerFlows() []sets.Rule {
	var rules []sets.Rule
	for _, s := range b.f.Strangers {
		terms := []sets.Term{is(sets.InName, s.In), b.unverified(), sets.NoBit(sets.CtState, sets.Related|sets.Established)}
		k := sets.Dst4
		if !s.Remote.Addr().Is4() {
			k = sets.Dst6
		}
		switch {
		case s.Out != "":
			terms = append(terms, is(sets.OutName, s.Out))
		case s.Remote.Bits() > 0:
			terms = append(terms, within(k, s.Remote), encrypted)
		default:
			terms = append(terms, encrypted)
		}
		then := sets.Term(back)
		if b.f.Lockdown != nil && slices.Contains(b.f.WAN, s.In) {
			then = leadTo("drop_lockdown")
		}
		rules = append(rules, rule("case 8e", append(terms, then)...))
	}
	return rules
}

// home adds the networks behind this host, and the local selectors of which only
// these are the LAN's.
func (b *builder) home(families []*family) {
	for _, f := range families {
		for _, list := range []struct {
			name, comment string
			networks      []netip.Prefix
		}{
			{"home", "networks behind this host", b.f.Behind},
			{"partly", "local selectors of which only networks behind this host are the LAN's", b.f.PartlyBehind},
		} {
			s := sets.Set{Name: list.name + f.suffix, Comment: list.comment, Interval: true, Opens: list.name == "home"}
			var networks []firewall.Network
			for _, p := range list.networks {
				networks = append(networks, firewall.Network{Prefix: p})
			}
			s.Elements = ranges(unowned(f, networks))
			b.set(s, f.src)
		}
	}
}

// fromNowhere drops packets that come in by an uplink with a source of a local selector that
// does not live behind this host, though the default route leads there.
func (b *builder) fromNowhere(f *family, source sets.FieldKind, before ...sets.Term) []sets.Rule {
	if len(b.f.Uplinks) == 0 || len(b.f.PartlyBehind) == 0 {
		return nil
	}
	return []sets.Rule{rule("case 6b: a stranger", and([]sets.Term{named(sets.InName, b.f.Uplinks)}, append(before,
		sets.In{Fields: field(source), Set: "partly" + f.suffix},
		sets.In{Fields: field(source), Not: true, Set: "home" + f.suffix}, leadTo("drop_inject"))...)...)}
}

// strangers drops a stranger's packets into a tunnel. Their flow comes in by an uplink,
// from none of the networks behind this host, and NAT maps it into the tunnel's selector.
// Published services stay. Where no selector is wider than the networks behind this host,
// hosts behind the uplink may be the LAN's, so the packet has to be mapped into a network
// of another interface.
func (b *builder) strangers(families []*family) []sets.Rule {
	if len(b.f.Uplinks) == 0 {
		return nil
	}
	var rules []sets.Rule
	for _, f := range families {
		terms := []sets.Term{named(sets.InName, b.f.Uplinks), encrypted, original,
			sets.AnyBit(sets.CtStatus, sets.SNATed), sets.NoBit(sets.CtStatus, sets.DNATed), b.unverified()}
		if len(b.f.PartlyBehind) == 0 {
			b.set(sets.Set{Name: "inner" + f.suffix, Comment: "networks behind interfaces where no stranger is", Interval: true, Elements: b.innerNetworks(f)}, f.src)
			terms = append(terms, sets.In{Fields: field(f.src), Set: "inner" + f.suffix})
		}
		rules = append(rules, rule("case 6b: a stranger, behind NAT", append(terms,
			sets.In{Fields: field(f.origSrc), Not: true, Set: "home" + f.suffix}, leadTo("drop_inject"))...))
	}
	return rules
}

// innerNetworks are the networks behind interfaces where no stranger is, whichever they are.
func (b *builder) innerNetworks(f *family) []sets.Element {
	var networks []firewall.Network
	for _, n := range b.f.Inside {
		networks = append(networks, firewall.Network{Prefix: n.Prefix})
	}
	return ranges(unowned(f, networks))
}
