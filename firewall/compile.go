package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Input is all that a rule set is made from.
type Input struct {
	Set    xfrm.Set
	Host   xfrm.Host
	Config Config
	// Peers tells what the IKE daemon's hook said of each tunnel, by tunnel ID.
	// It only ever selects among rules that the administrator wrote.
	Peers map[string]Peer
	// Guards are remembered and configured ones; those of live policies follow
	// from the set.
	Guards []Guard
	// NATSources are the addresses that other programs' SNAT rules map to.
	NATSources []netip.Prefix
	// MarksWritten tells that other programs' rules write our bits. What they
	// wipe is then accepted on the policy match alone, which is sound as what
	// came out of a tunnel and is not its own was dropped before they ran.
	MarksWritten bool
}

// Peer is who is at a tunnel's other end, as far as the hook knows. An empty
// field is not known.
type Peer struct {
	Connection string
	// Identity is what the peer proved to be: the EAP or XAuth user if there is
	// one, else the IKE identity.
	Identity string
}

// Result is what Compile makes of an Input.
type Result struct {
	// Rulesets has one entry per family: IPv4, then IPv6.
	Rulesets []Ruleset
	// Tunnels has the verdicts on the tunnels, in the order of the set.
	Tunnels []TunnelReport
	// Guards are all guards in force, live ones first.
	Guards []Guard
	// Ignored lists what no rule was made for, besides the set's own.
	Ignored []xfrm.Ignored
	// Unenforceable says why Config.Enforce is not in force, by tunnel: the rules
	// are then those without it. Empty if it is, or was not asked for.
	Unenforceable []string
	// Warnings are sentences for a person.
	Warnings []string
}

// TunnelReport says what Compile found out about one tunnel.
type TunnelReport struct {
	// Name is the configured name, the hook's connection name, or empty.
	Name string
	Witness
	// SAs has the witness of each of the tunnel's states, in their order.
	SAs []Witness
	// Devices are the interfaces that only this tunnel's traffic uses.
	Devices []string
}

// The chains. Those of dispatch trees have further names below them.
const (
	chainBare    = "XFRMFW-BARE"
	chainPre     = "XFRMFW-PRE"
	chainIn      = "XFRMFW-IN"
	chainFwd     = "XFRMFW-FWD"
	chainOut     = "XFRMFW-OUT"
	chainTag     = "XFRMFW-TAG"
	chainPol     = "XFRMFW-POL"
	chainSel     = "XFRMFW-SEL"
	chainRelated = "XFRMFW-RELATED"
	// chainRelatedTo and chainRelatedRe are the trees for errors about flows that
	// the remote end began, or replied to.
	chainRelatedTo = "XFRMFW-RELTO"
	chainRelatedRe = "XFRMFW-RELRE"
	chainForeign   = "XFRMFW-FOREIGN"
	chainOwner     = "XFRMFW-OWNER"
	chainStray     = "XFRMFW-STRAY"
	chainNAT       = "XFRMFW-NAT"
	// chainCarrier begins the names of the chains for the packets that carry an
	// overlay device's.
	chainCarrier = "XFRMFW-CARRIER"
	// chainAstray is for what carries an overlay device's packets and did not come
	// the way that they come.
	chainAstray = "XFRMFW-ASTRAY"
	// chainCarried is the tree that leads to them.
	chainCarried = "XFRMFW-CARRIED"
)

// Compile says which rules the host should have. It is pure: the same input
// gives the same rules in the same order. Who compiles again and again keeps a
// Compiler.
func Compile(in Input) Result {
	var m memo
	m.begin(in.Config.Marks)
	return compile(in, &m)
}

func compile(in Input, m *memo) Result {
	c := newCompiler(in, m)
	for _, family := range []Family{xfrm.IPv4, xfrm.IPv6} {
		if family == xfrm.IPv6 && in.Host.NoIPv6 {
			continue
		}
		b := builder{compiler: c, family: family, made: make(map[string]bool), named: make(map[string]map[netip.Prefix]string)}
		b.findGuards()
		b.findClaims()
		b.mangle()
		b.filter()
		b.nat()
		b.finish()
		c.result.Rulesets = append(c.result.Rulesets, b.set)
	}
	slices.Sort(c.result.Warnings)
	return c.result
}

func compareChains(x, y Chain) int {
	if x.Table != y.Table {
		return cmp.Compare(x.Table.Order(), y.Table.Order())
	}
	return cmp.Compare(x.Name, y.Name)
}

// compiler holds what both families are made from.
type compiler struct {
	Input
	result Result
	// claims are the tunnels' pairs as they may be verified: capped by the
	// configuration, and only those that a rule can express.
	claims []claim
	// facts are known of the tunnels, in the order of the set; notable are the places
	// of those that are more than plain ones.
	facts    []tunnelFacts
	notable  []int
	overlays []overlay
	// devices maps xfrm interfaces to their tunnel.
	devices map[string]int
	// shared are the reqids that several tunnels have.
	shared map[uint32]bool
	// all are all guards, in the order in which they decide.
	all []Guard
	// alone are the answers of hasNoSource, by local selector.
	alone map[netip.Prefix]bool
	// memo is what was made in the last compilation.
	memo *memo
	// down are the tunnels that have not their states.
	down map[string]bool
	// there tells of the tunnels that guards of policies which don't stand are for
	// whether they are in the set.
	there map[string]bool
	// offload tells that a network card does all of ESP for some state.
	offload bool
	// connected are this host's networks.
	connected []lanSpot
	// enforce tells that case 3 is dropped.
	enforce bool
	// uncertain are the reqids of which not every packet that may come out of
	// them is known.
	uncertain map[uint32]bool
}

func newCompiler(in Input, m *memo) *compiler {
	var warnings []string
	in.Host, warnings = nameable(in.Host)
	c := &compiler{
		Input: in, memo: m,
		devices:   xfrmDevices(in.Set, in.Host),
		down:      make(map[string]bool),
		alone:     make(map[netip.Prefix]bool),
		uncertain: make(map[uint32]bool),
	}
	c.overlays = overlays(c.cappedSet(), in.Host)
	c.all = allGuards(c.capped(LiveGuards(in.Set, in.Host)), in.Guards)
	c.result.Guards, c.result.Warnings = c.all, warnings
	c.connected = connectedNetworks(in.Host, c.isTunnelDevice)
	c.survey()
	c.unknownPeers()
	c.enforcement()
	return c
}

// nameable returns the host without the links that no rule can name: one odd
// name must not keep all rules from being applied. A trailing "+" would make
// iptables take the name for a pattern.
func nameable(host xfrm.Host) (xfrm.Host, []string) {
	var warnings []string
	var links []xfrm.Link
	for _, l := range host.Links {
		if plainInterface(l.Name) && !strings.HasSuffix(l.Name, "+") {
			links = append(links, l)
			continue
		}
		warnings = append(warnings, fmt.Sprintf("interface %q has a name that iptables can't be told, so no rule names it: rename it with ip link set dev", l.Name))
	}
	host.Links = links
	return host, warnings
}

// isTunnelDevice reports whether a device carries nothing but tunnel traffic.
func (c *compiler) isTunnelDevice(name string) bool {
	_, ok := c.devices[name]
	return ok || slices.ContainsFunc(c.overlays, func(o overlay) bool { return o.devices[0] == name })
}

// report fills in what status shows of a tunnel.
func (c *compiler) report(i int) {
	t := &c.Set.Tunnels[i]
	r := &c.result.Tunnels[i]
	r.Name = c.Peers[t.ID].Connection
	if tc, ok := c.config(t); ok && tc.Name != "" {
		r.Name = tc.Name
	}
	r.Witness = Witness{NoEvidence, "no inbound state: the tunnel is down"}
	r.SAs = slices.Grow(r.SAs, len(t.SAs))
	for i := range t.SAs {
		sa := &t.SAs[i]
		w := witness(sa, c.Host, c.Config.Marks)
		r.SAs = append(r.SAs, w)
		if sa.Inbound && (r.Evidence == NoEvidence || w.Evidence == PolicyOnly && r.Evidence == TagAndPolicy) {
			r.Witness = w
		}
	}
	for _, p := range t.Pairs {
		if r.Evidence == TagAndPolicy && greedyPolicy(p, c.Host, c.Config.Marks) {
			r.Witness = Witness{PolicyOnly, fmt.Sprintf("its policies are found by mark %s, which covers our bits", p.Mark)}
		}
	}
	for _, o := range c.overlays {
		if o.tunnel == i {
			r.Devices = append(r.Devices, o.devices...)
			if o.vti && r.Evidence != NoEvidence {
				r.Witness = Witness{OverlayOnly, "the VTI device hides the policy from iptables"}
			}
		}
	}
	for name, at := range c.devices {
		if at == i {
			r.Devices = append(r.Devices, name)
		}
	}
	slices.Sort(r.Devices)
	r.Devices = slices.Compact(r.Devices)
}
