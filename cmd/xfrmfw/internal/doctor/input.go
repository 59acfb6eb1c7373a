package doctor

import (
	"net/netip"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/limit"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Input is all that findings are made from.
type Input struct {
	Snapshot xfrm.Snapshot
	Set      xfrm.Set
	// Config has the bits in use in its Marks, also where marks: auto chose them.
	Config firewall.Config
	Result compile.Result
	// Engine is "iptables" or "nftables".
	Engine string
	// Variant is the iptables variant in use, "nft" or "legacy"; Live are its
	// rules, nil if they could not be read.
	Variant string
	Live    map[xfrm.Family]live.Tables
	// Later are the rules again, Apart after Live.
	Later map[xfrm.Family]live.Tables
	// TableDrops are the packets that our table of nftables has dropped, by purpose, and
	// those again, Apart after them.
	TableDrops [2]map[rules.Purpose]uint64
	// Differences are plan.Make's.
	Differences []plan.Difference
	// Exempt is true if our table of nftables keeps tunnel traffic from the NAT of all
	// other programs, in whichever table and order they have it.
	Exempt bool
	// TableDifferences are those of our table of nftables, one line each.
	TableDifferences []string
	// Other are the rules of the other variant.
	Other Other
	// NFT are the tables of nftables that have a base chain and are not those of
	// iptables-nft.
	NFT foreign.Ruleset
	// Sysctl are the kernel's settings.
	Sysctl Sysctl
	// Counters are two readings of /proc/net/xfrm_stat, so long apart.
	Counters [2]map[string]uint64
	Apart    time.Duration
	// Modules are kernel modules that are neither loaded, built in nor installed;
	// Capabilities are those that the process lacks.
	Modules, Capabilities []string
	// Distribution has the names of the packages that are missing.
	Distribution Distribution
	// Excess are the limits that were reached.
	Excess []limit.Excess
	// Notices tell of a configuration that waits for its confirmation, or was refused.
	Notices []string
	// Memory has the remembered pairs, with times of the wall clock.
	Memory []guard.Guard
	// IKE names the IKE daemon that runs in this network; empty for none. Daemon is true
	// if that of xfrmfw runs, Hooked if a configuration of the IKE daemon names xfrmfw.
	IKE string
	// Stroke is true if strongSwan's connections are in ipsec.conf.
	Stroke         bool
	Daemon, Hooked bool
	// Denials are accesses that SELinux or AppArmor denied to the hook of late.
	Denials []Denial
	// Saved are files that nftables loads at boot and that hold rules of ours.
	Saved []Saved
	// Failures are the parts of the host that could not be read.
	Failures []Failure
}

// Failure is a step of the examination that failed.
type Failure struct {
	// What is the name of a part of the host, Why the error.
	What, Why string
	// Minor is true if the rest of the examination is complete without it.
	Minor bool
	// Mend is the remedy, if one is known.
	Mend []string
}

// Other are the rules of an iptables variant that is not in use.
type Other struct {
	Variant string
	Live    map[xfrm.Family]live.Tables
}

// Sysctl are settings of the kernel that matter to tunnels.
type Sysctl struct {
	// Forward4 and Forward6 are true if packets are forwarded.
	Forward4, Forward6 bool
	// BridgeCall4 and BridgeCall6 are true if iptables and ip6tables judge the frames of
	// all bridges.
	BridgeCall4, BridgeCall6 bool
	// Links has the settings of each interface by its name, joined with those of
	// "all" as the kernel does.
	Links map[string]LinkSysctl
}

// LinkSysctl are the settings of one interface.
type LinkSysctl struct {
	// ReversePath is rp_filter: 0 off, 1 strict, 2 loose.
	ReversePath int
	// NoPolicy and NoPolicy6 are disable_policy, NoXfrm is disable_xfrm.
	NoPolicy, NoPolicy6, NoXfrm bool
	// SourceRoute is accept_source_route of IPv4, Segments is seg6_enabled.
	SourceRoute, Segments bool
	SendRedirects         bool
	// BridgeCall4 and BridgeCall6 are a bridge's own setting, beside that of all bridges.
	BridgeCall4, BridgeCall6 bool
}

// tableDecides reports whether the verdicts are in our table of nftables, which stands
// behind the NAT and the marks of all other programs.
func (in Input) tableDecides() bool { return in.Engine == "nftables" }

// now is the time to which ages refer, in seconds since the epoch.
func (in Input) now() int64 { return in.Snapshot.Time }

// verified is the bit that records the verdict.
func (in Input) verified() uint32 { return in.Config.Marks.Verified }

// linkTo returns the interface by which the routes lead to an address.
func (in Input) linkTo(a netip.Addr) (xfrm.Link, bool) {
	best, bits := int32(0), -1
	for _, r := range in.Snapshot.Host.Routes {
		if r.Dst.IsValid() && r.Dst.Bits() > bits && r.Dst.Contains(a) {
			best, bits = r.Link, r.Dst.Bits()
		}
	}
	return in.Snapshot.Host.Link(best)
}

// linkOf returns the interface that has an address of this host.
func (in Input) linkOf(a netip.Addr) (xfrm.Link, bool) {
	for _, address := range in.Snapshot.Host.Addresses {
		if address.Prefix.Addr() == a {
			return in.Snapshot.Host.Link(address.Link)
		}
	}
	return xfrm.Link{}, false
}

// uplinks are the interfaces that lead to the peers, sorted by index.
func (in Input) uplinks() []xfrm.Link {
	up := make(map[int32]bool)
	for _, t := range in.Set.Tunnels {
		if !t.Remote.IsValid() {
			continue
		}
		if l, ok := in.linkTo(t.Remote); ok {
			up[l.Index] = true
		}
	}
	var links []xfrm.Link
	for _, l := range in.Snapshot.Host.Links {
		if up[l.Index] && l.Name != "lo" {
			links = append(links, l)
		}
	}
	return links
}

// name is how a tunnel is called: as in status.
func (in Input) name(i int) string {
	if i < len(in.Result.Tunnels) && in.Result.Tunnels[i].Name != "" {
		return in.Result.Tunnels[i].Name
	}
	return in.Set.Tunnels[i].ID
}

// Denial is an access that a security module of the kernel denied, as its audit
// record says.
type Denial struct {
	// Module is "SELinux" or "AppArmor", and Subject the domain or profile that it denied
	// the access: "ipsec_t", "/usr/lib/ipsec/charon".
	Module, Subject string
	// Operation is the denied operation: "execute", "connectto", "exec"; Object the file or the
	// type that it was denied on, and Command the name of the process.
	Operation, Object, Command string
}
