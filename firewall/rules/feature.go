package rules

import (
	"math/bits"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Features is a set of parts of iptables that a kernel, or a build of iptables,
// can lack, and without which most rules still protect. The matches policy, mark
// and comment and the target MARK are no Features: nothing can be classified
// without them.
type Features uint16

// The features, each a match, a target or a table.
const (
	FeatureConntrack Features = 1 << iota
	FeatureAddrType
	FeatureRPFilter
	FeatureLimit
	FeatureSCTP
	FeatureLog
	FeatureNFLog
	FeatureTCPMSS
	FeatureReject
	FeatureNAT
	featuresEnd
)

// AllFeatures has every feature.
const AllFeatures = featuresEnd - 1

// An Extension is a Feature in the words of iptables.
type Extension struct {
	// Kind is "match", "target" or "table", and Name its name.
	Kind, Name string
	// Module is the kernel module that has it.
	Module string
	// Lost is a clause that says which protection is missing without it.
	Lost string
}

// Extension describes a single feature.
func (f Features) Extension(family xfrm.Family) Extension {
	short := "ipt"
	if family == xfrm.IPv6 {
		short = "ip6t"
	}
	switch f {
	case FeatureConntrack:
		return Extension{"match", "conntrack", "xt_conntrack",
			"every packet is judged as one of no known flow: ICMP errors from routers inside a tunnel are dropped, forged ICMP errors about tunnels' flows are not told, and in:, out: and lockdown: cut replies"}
	case FeatureAddrType:
		return Extension{"match", "addrtype", "xt_addrtype",
			"this host's addresses are listed one by one in its place, and the rules follow them only where the daemon runs"}
	case FeatureRPFilter:
		return Extension{"match", "rpfilter", short + "_rpfilter",
			"case 6b is open: packets of strangers that claim a local selector's address are encrypted; set net.ipv4.conf.all.rp_filter=1 meanwhile"}
	case FeatureLimit:
		return Extension{"match", "limit", "xt_limit", "drops are counted and not logged, as nothing would bound the rate"}
	case FeatureSCTP:
		return Extension{"match", "sctp", "xt_sctp", "pairs with ports of SCTP are neither accepted nor guarded"}
	case FeatureLog:
		return Extension{"target", "LOG", "xt_LOG", "drops are counted and not logged"}
	case FeatureNFLog:
		return Extension{"target", "NFLOG", "xt_NFLOG", "drops are counted and not logged"}
	case FeatureTCPMSS:
		return Extension{"target", "TCPMSS", "xt_TCPMSS", "mss: has no effect, and large segments may be lost"}
	case FeatureReject:
		return Extension{"target", "REJECT", short + "_REJECT", "packets are dropped in its place, so that their senders wait for a timeout"}
	case FeatureNAT:
		return Extension{"table", "nat", short + "able_nat or nft_chain_nat", "nothing keeps others' SNAT from tunnel traffic, if there is any"}
	}
	return Extension{}
}

// All yields the single features of the set.
func (f Features) All() []Features {
	var all []Features
	for rest := f & AllFeatures; rest != 0; rest &= rest - 1 {
		all = append(all, 1<<bits.TrailingZeros16(uint16(rest)))
	}
	return all
}

// String lists the names, such as "conntrack, LOG".
func (f Features) String() string {
	var names []string
	for _, one := range f.All() {
		names = append(names, one.Extension(xfrm.IPv4).Name)
	}
	return strings.Join(names, ", ")
}

// Needs returns the features that a rule uses.
func (r *Rule) Needs() Features {
	var f Features
	for _, use := range [...]struct {
		uses    bool
		feature Features
	}{
		{r.Ct != CtMatch{}, FeatureConntrack},
		{r.SrcType != "" || r.DstType != "", FeatureAddrType},
		{r.RPFilterInvert, FeatureRPFilter},
		{r.Limit.PerSecond != 0, FeatureLimit},
		{r.Proto == xfrm.SCTP && (r.SPorts != firewall.Ports{} || r.DPorts != firewall.Ports{}), FeatureSCTP},
		{r.Target.Verb == Log, FeatureLog},
		{r.Target.Verb == NFLog, FeatureNFLog},
		{r.Target.Verb == ClampMSS, FeatureTCPMSS},
		{r.Target.Verb == Reject, FeatureReject},
	} {
		if use.uses {
			f |= use.feature
		}
	}
	return f
}
