package nftables

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// The tables of random gateways load, are read back equal, and each leads to the next by
// a change of the differing parts.
func TestProgramsOfRandomGateways(t *testing.T) {
	c := open(t)
	seeds := uint64(40)
	if testing.Short() {
		seeds = 10
	}
	compared := 0
	for seed := range seeds {
		_, in := fake.Variety(seed)
		in.Config.Enforce = seed%3 == 0
		f := decide.Facts(in)
		want := program.Table(&f, program.Options{})
		s := read(t, c)
		change := sets.Diff(s.Table, want)
		if _, err := c.Apply(s, change, want); err != nil {
			t.Fatalf("seed %d: %v\n%s\n%s", seed, err, change, s.Table)
		}
		got := read(t, c)
		if diff := cmp.Diff(withoutCounts(bare(want)), withoutCounts(bare(got.Table))); diff != "" {
			t.Fatalf("seed %d: wanted -, read +:\n%s", seed, diff)
		}
		if change := sets.Diff(got.Table, want); !change.Empty() {
			t.Fatalf("seed %d: a second time there is a change:\n%s", seed, change)
		}
		// As text it is the same to nft, which in a user namespace can't send much.
		if readable := withoutFlowPorts(want); seed%10 == 0 && len(readable.String()) < 40_000 {
			compared++
			apply(t, c, sets.Table{}) // nft lists in the order of making
			apply(t, c, readable)
			byNetlink := list(t)
			apply(t, c, sets.Table{})
			nft(t, readable.String(), "-f", "-")
			if diff := cmp.Diff(list(t), byNetlink); diff != "" {
				t.Fatalf("seed %d: as text -, by netlink +:\n%s", seed, diff)
			}
		}
	}
	if compared == 0 {
		t.Error("no table was compared as text")
	}
}

// A person who lists the table of one tunnel finds the tunnel by its ID and configured
// name, and each case by its name, in a few screens.
func TestListingOfOneTunnel(t *testing.T) {
	c := open(t)
	in := oneTunnel()
	f := decide.Facts(in)
	apply(t, c, program.Table(&f, program.Options{}))
	listing := list(t)
	t.Log("\n" + listing)
	if lines := strings.Count(listing, "\n"); lines > 400 {
		t.Errorf("%d lines, want at most 400", lines)
	}
	id := in.Set.Tunnels[0].ID
	for _, word := range []string{
		`comment "` + id + ` office"`, `"TAG"`, `"case 1"`, `"cases 2 and 3`, `"case 1b`, `"case 5"`, `"case 6"`, `"case 6b`,
		`"case 7"`, `"case 7b`, `"case 8"`, `"case 8b"`, `"case 8c`, `"exempt from NAT`,
	} {
		if !strings.Contains(listing, word) {
			t.Errorf("the listing lacks %s", word)
		}
	}
	if strings.Contains(listing, "peer-chosen") {
		t.Error("the listing has a name that the configuration does not give")
	}
}

// oneTunnel is a gateway with one tunnel, which the configuration names. The IKE daemon
// has another name for it.
func oneTunnel() firewall.Input {
	address := netip.MustParsePrefix
	host := xfrm.Host{
		Links: []xfrm.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "eth0", Up: true}, {Index: 3, Name: "eth1", Up: true}},
		Addresses: []xfrm.Address{
			{Link: 2, Prefix: address("192.0.2.2/24")}, {Link: 3, Prefix: address("10.2.0.1/24")}, {Link: 3, Prefix: address("fd00:2::1/64")},
		},
		Routes: []xfrm.Route{
			{Dst: address("192.0.2.0/24"), Link: 2, Connected: true}, {Dst: address("10.2.0.0/24"), Link: 3, Connected: true},
			{Dst: address("0.0.0.0/0"), Link: 2, Via: netip.MustParseAddr("192.0.2.254")},
		},
	}
	site := sample.Site{Reqid: 1, Local: "192.0.2.2", Remote: "192.0.2.1", Pairs: [][2]string{{"10.2.0.0/24", "10.1.0.0/24"}}}
	s := sample.Snapshot(host, site)
	in := firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{
		Marks: firewall.DefaultMarks(), Log: firewall.LogConfig{PerSecond: 5, Group: 5},
		Tunnels: []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 1}, Name: "office"}},
	}}
	in.Peers = map[string]firewall.Peer{in.Set.Tunnels[0].ID: {Connection: "peer-chosen"}}
	return in
}

// withoutFlowPorts leaves out rules with ports of a connection, which nft 1.0.6
// does not read as it writes them.
func withoutFlowPorts(t sets.Table) sets.Table {
	t = bare(t)
	for i := range t.Chains {
		t.Chains[i].Rules = slices.DeleteFunc(t.Chains[i].Rules, func(r sets.Rule) bool { return strings.Contains(r.String(), "proto-") })
	}
	return t
}
