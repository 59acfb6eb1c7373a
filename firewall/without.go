package firewall

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Without returns the result for programs that lack features, by family. Rules
// that need one are replaced where others protect as well, else left out; the rest
// stands. A warning for each feature that was needed names the module. The
// receiver is not changed, and returned as it is if nothing is lacking.
//
// A conntrack match is decided as the kernel decides it for a packet without an
// entry (net/netfilter/xt_conntrack.c): all that asks for a state or a tuple fails,
// and all that asks for the absence of a state holds. So guards get stricter, and
// what is let through on the word of conntrack is not let through.
func (r Result) Without(lacks map[Family]Features, host xfrm.Host) Result {
	var warnings []string
	needed := make(map[Features][]Family)
	for i, rs := range r.Rulesets {
		lack := lacks[rs.Family]
		if lack == 0 {
			continue
		}
		if len(needed) == 0 {
			r.Rulesets = slices.Clone(r.Rulesets)
		}
		d := degrader{lacks: lack, locals: addresses(host, rs.Family)}
		r.Rulesets[i] = d.ruleset(rs)
		for _, f := range d.needed.All() {
			needed[f] = append(needed[f], rs.Family)
		}
	}
	for _, f := range AllFeatures.All() {
		families := needed[f]
		if len(families) == 0 {
			continue
		}
		e := f.Extension(families[0])
		where := ""
		if slices.ContainsFunc(r.Rulesets, func(rs Ruleset) bool { return lacks[rs.Family]&f == 0 }) {
			where = fmt.Sprintf(" (%s)", families[0])
		}
		warnings = append(warnings, fmt.Sprintf("iptables%s lacks the %s %s: %s; load the module %s, or install the package of iptables' extensions, and run xfrmfw apply",
			where, e.Kind, e.Name, e.Lost, e.Module))
	}
	if len(warnings) > 0 {
		r.Warnings = append(slices.Clone(r.Warnings), warnings...)
		slices.Sort(r.Warnings)
	}
	return r
}

// addresses are the host's own of a family, sorted.
func addresses(host xfrm.Host, family Family) []netip.Addr {
	var list []netip.Addr
	for _, a := range host.Addresses {
		if familyOf(a.Prefix.Addr()) == family {
			list = append(list, a.Prefix.Addr().WithZone(""))
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// degrader rewrites a rule set for programs that lack features.
type degrader struct {
	lacks, needed Features
	// locals are the addresses of this host.
	locals []netip.Addr
}

func (d *degrader) ruleset(rs Ruleset) Ruleset {
	chains := make([]Chain, 0, len(rs.Chains))
	for _, c := range rs.Chains {
		if c.Table == NAT && d.lacks&FeatureNAT != 0 {
			d.needed |= FeatureNAT
			continue
		}
		if slices.ContainsFunc(c.Rules.Slice(), func(r Rule) bool { return r.Needs()&d.lacks != 0 }) {
			var rules []Rule
			for _, rule := range c.Rules.All() {
				rules = append(rules, d.rule(rule)...)
			}
			c.Rules = RulesOf(rules...)
		}
		chains = append(chains, c)
	}
	rs.Chains = chains
	rs.Hooks = slices.DeleteFunc(slices.Clone(rs.Hooks), func(h Hook) bool { return h.Table == NAT && d.lacks&FeatureNAT != 0 })
	if d.needed != 0 {
		prune(&rs)
	}
	return rs
}

// rule returns the rules that stand in place of one.
func (d *degrader) rule(r Rule) []Rule {
	lack := r.Needs() & d.lacks
	d.needed |= lack
	if lack&(FeatureRPFilter|FeatureLimit|FeatureSCTP|FeatureLog|FeatureNFLog|FeatureTCPMSS) != 0 {
		return nil
	}
	if lack&FeatureConntrack != 0 {
		if r.Ct.State == 0 || !r.Ct.NotState {
			return nil
		}
		r.Ct = CtMatch{}
	}
	if lack&FeatureReject != 0 {
		r.Target = Target{Verb: Drop}
	}
	if lack&FeatureAddrType != 0 {
		return d.toAddresses(r)
	}
	return []Rule{r}
}

// toAddresses replaces a match on this host's addresses by one on each of them.
func (d *degrader) toAddresses(r Rule) []Rule {
	var rules []Rule
	for _, a := range d.locals {
		one := r
		one.SrcType, one.DstType = "", ""
		if r.SrcType == Local {
			if covers(r.Src, a) {
				one.Src = single(a)
			} else {
				continue
			}
		}
		if r.DstType == Local {
			if covers(r.Dst, a) {
				one.Dst = single(a)
			} else {
				continue
			}
		}
		rules = append(rules, one)
	}
	return rules
}
