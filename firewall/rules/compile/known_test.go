package compile

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// knownWorld has tunnels of all kinds that KNOWN tells apart: ends of either
// family in rows, many behind one address, without an address and without tunnel
// mode.
func knownWorld(n int) []xfrm.Tunnel {
	tunnels := make([]xfrm.Tunnel, n)
	for i := range tunnels {
		t := &tunnels[i]
		t.ID, t.Reqid, t.Proto, t.Mode = fmt.Sprintf("t%d", i), uint32(i+1), xfrm.ESP, xfrm.TunnelMode
		t.Local = netip.MustParseAddr("192.0.2.1")
		t.Pairs = []xfrm.Pair{{Local: netip.MustParsePrefix("10.2.0.0/16"), Remote: netip.MustParsePrefix("10.1.0.0/16"), Dirs: 1 << xfrm.In}}
		switch i % 10 {
		default:
			t.Remote = netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})
		case 7:
			t.Remote = netip.MustParseAddr("203.0.113.9")
		case 8:
			a := [16]byte{0: 0x20, 1: 0x01, 2: byte(i >> 8), 3: byte(i)}
			t.Remote = netip.AddrFrom16(a)
		case 9:
			t.Mode, t.Remote = xfrm.TransportMode, netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)})
		}
	}
	return tunnels
}

// knownChains are the chains of KNOWN, and the way that a packet out of a state
// takes through them: how many rules it meets, and whether it is dropped.
func knownChains(tunnels []xfrm.Tunnel, family xfrm.Family) (made []rules.Chain, walk func(path ...xfrm.Transform) (met int, dropped bool)) {
	f := decide.Facts(firewall.Input{Set: xfrm.Set{Tunnels: tunnels}, Config: firewall.Config{Marks: firewall.DefaultMarks()}})
	b := &cases{layout.New(&f, family)}
	b.known()
	chains := make(map[string][]rules.Rule)
	for _, c := range b.Set.Chains {
		chains[c.Name] = c.Rules.Slice()
	}
	walk = func(path ...xfrm.Transform) (met int, dropped bool) {
		p := trace.Packet{SecPath: path}
		var run func(name string) bool
		run = func(name string) bool {
			for _, r := range chains[name] {
				if met++; !trace.Matches(r, p) {
					continue
				}
				switch {
				case r.Target.Verb == rules.SetMark:
					p.Mark = p.Mark&^r.Target.Mask ^ r.Target.Value
				case r.Target.Chain == layout.ChainCrossed:
					return true
				default:
					if done := run(r.Target.Chain); done || r.Target.Verb == rules.Goto {
						return done
					}
				}
			}
			return false
		}
		if dropped = run(layout.ChainKnown); !dropped && p.Mark != 0 {
			panic("passes with a mark")
		}
		return met, dropped
	}
	return b.Set.Chains, walk
}

// A packet out of any known reqid is dropped there, wherever its state's end is by now,
// and nothing else is. It meets few rules where its address can lead.
func TestKnown(t *testing.T) {
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		for _, n := range []int{1, 10, knownLeaf, knownLeaf + 1, 1000, 10000} {
			tunnels := knownWorld(n)
			chains, walk := knownChains(tunnels, family)
			for i, tunnel := range tunnels {
				if n > 100 && i%17 != 0 {
					continue
				}
				state := xfrm.Transform{Proto: xfrm.ESP, Mode: tunnel.Mode, Reqid: tunnel.Reqid, Src: tunnel.Remote, Dst: tunnel.Local}
				met, dropped := walk(state)
				if !dropped {
					t.Errorf("%s, %d tunnels: what came out of %s passes", family, n, tunnel.ID)
				}
				if led := i%10 < 7 || i%10 == 8; led && met > 160 {
					t.Errorf("%s, %d tunnels: what came out of %s meets %d rules", family, n, tunnel.ID, met)
				}
				moved := state
				moved.Src = netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
				if _, dropped := walk(moved); !dropped {
					t.Errorf("%s, %d tunnels: what came out of %s, whose end moved, passes", family, n, tunnel.ID)
				}
				within := xfrm.Transform{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1 << 30, Src: tunnels[0].Remote, Dst: tunnel.Local}
				if _, dropped := walk(within, state); !dropped {
					t.Errorf("%s, %d tunnels: what came out of %s inside another state passes", family, n, tunnel.ID)
				}
				other := state
				other.Reqid += 1 << 20
				if _, dropped := walk(other); dropped {
					t.Errorf("%s, %d tunnels: what came out of reqid %d, which is not known, is dropped", family, n, other.Reqid)
				}
			}
			for _, c := range chains {
				if len(c.Name) > 28 {
					t.Errorf("%s is too long a name for a chain", c.Name)
				}
			}
			if most := 2 + n/4; len(chains) > most+knownPieces {
				t.Errorf("%s, %d tunnels: %d chains", family, n, len(chains))
			}
		}
	}
}

// One tunnel less rewrites a chain or two.
func TestKnownChangesLocally(t *testing.T) {
	tunnels := knownWorld(5000)
	before, _ := knownChains(tunnels, xfrm.IPv4)
	had := make(map[string]rules.List)
	for _, c := range before {
		had[c.Name] = c.Rules
	}
	for _, gone := range []int{0, 7, 8, 9, 1000, 2505, 4999} {
		after, _ := knownChains(slices.Delete(slices.Clone(tunnels), gone, gone+1), xfrm.IPv4)
		changed, rules := 0, 0
		for _, c := range after {
			if !had[c.Name].Equal(c.Rules) {
				changed++
				rules += c.Rules.Len()
			}
		}
		if changed == 0 || changed > 2 || rules > 2*knownLeaf+knownPieces {
			t.Errorf("without tunnel %d, %d chains with %d rules are other ones", gone, changed, rules)
		}
	}
}

// xt_policy compares addresses of the state in the packet's family: an IPv6 rule
// sees an IPv4 address as the first four bytes, and the other way round.
func TestOuterAddressInFamily(t *testing.T) {
	for _, c := range []struct {
		prefix, outer string
		in            bool
	}{
		{"192.0.2.0/24", "192.0.2.7", true},
		{"192.0.2.0/24", "192.0.3.7", false},
		{"c000:200::/24", "192.0.2.7", true},
		{"c000:207::/32", "192.0.2.7", true},
		{"c000:207::/128", "192.0.2.7", true},
		{"c000:207::1/128", "192.0.2.7", false},
		{"c000:208::/32", "192.0.2.7", false},
		{"c000:207::/32", "2.7.192.0", false},
		{"32.1.13.184/32", "2001:db8::1", true},
		{"32.1.0.0/16", "2001:db8::1", true},
		{"2001:db8::/32", "2001:db8::1", true},
		{"2001:db8::/32", "2001:db9::1", false},
	} {
		if got := prefix.OuterIn(netip.MustParsePrefix(c.prefix), netip.MustParseAddr(c.outer)); got != c.in {
			t.Errorf("%s in %s: %t", c.outer, c.prefix, got)
		}
	}
	four := netip.MustParseAddr("192.0.2.7")
	if six := prefix.InFamily(four, xfrm.IPv6).As16(); binary.BigEndian.Uint32(six[:]) != 0xc0000207 || prefix.InFamily(prefix.InFamily(four, xfrm.IPv6), xfrm.IPv4) != four {
		t.Errorf("192.0.2.7 is %v for IPv6", six)
	}
}
