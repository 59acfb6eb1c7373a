// Package degrade makes rule sets for programs that lack extensions. It runs no program:
// package iptables has tried which extensions the host has.
package degrade

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Rulesets returns rule sets for programs that lack features, by family. Rules that need
// one are replaced where others protect as well, else left out; the others stay. A
// warning for each feature that was needed names the module. The argument is not
// changed, and returned as it is if no feature is lacking.
//
// A conntrack match is decided as the kernel decides it for a packet without an
// entry (net/netfilter/xt_conntrack.c): a match on a state or a tuple fails, and a match
// on the absence of a state holds. So guards get stricter, and no packet is let through
// because of conntrack.
func Rulesets(sets []rules.Ruleset, lacks map[xfrm.Family]rules.Features, host xfrm.Host) (degraded []rules.Ruleset, warnings []string) {
	needed := make(map[rules.Features][]xfrm.Family)
	for i, rs := range sets {
		lack := lacks[rs.Family]
		if lack == 0 {
			continue
		}
		if len(needed) == 0 {
			sets = slices.Clone(sets)
		}
		d := degrader{lacks: lack, locals: addresses(host, rs.Family)}
		sets[i] = d.ruleset(rs)
		for _, f := range d.needed.All() {
			needed[f] = append(needed[f], rs.Family)
		}
	}
	for _, f := range rules.AllFeatures.All() {
		families := needed[f]
		if len(families) == 0 {
			continue
		}
		e := f.Extension(families[0])
		where := ""
		if slices.ContainsFunc(sets, func(rs rules.Ruleset) bool { return lacks[rs.Family]&f == 0 }) {
			where = fmt.Sprintf(" (%s)", families[0])
		}
		warnings = append(warnings, fmt.Sprintf("iptables%s lacks the %s %s: %s; load the module %s, or install the package of iptables' extensions, and run xfrmfw apply",
			where, e.Kind, e.Name, e.Lost, e.Module))
	}
	return sets, warnings
}

// addresses are the host's own of a family, sorted.
func addresses(host xfrm.Host, family xfrm.Family) []netip.Addr {
	var list []netip.Addr
	for _, a := range host.Addresses {
		if xfrm.FamilyOf(a.Prefix.Addr()) == family {
			list = append(list, a.Prefix.Addr().WithZone(""))
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// degrader rewrites a rule set for programs that lack features.
type degrader struct {
	lacks, needed rules.Features
	// locals are the addresses of this host.
	locals []netip.Addr
}

func (d *degrader) ruleset(rs rules.Ruleset) rules.Ruleset {
	chains := make([]rules.Chain, 0, len(rs.Chains))
	for _, c := range rs.Chains {
		if c.Table == rules.NAT && d.lacks&rules.FeatureNAT != 0 {
			d.needed |= rules.FeatureNAT
			continue
		}
		if slices.ContainsFunc(c.Rules.Slice(), func(r rules.Rule) bool { return r.Needs()&d.lacks != 0 }) {
			var list []rules.Rule
			for _, rule := range c.Rules.All() {
				list = append(list, d.rule(rule)...)
			}
			c.Rules = rules.ListOf(list...)
		}
		chains = append(chains, c)
	}
	rs.Chains = chains
	rs.Hooks = slices.DeleteFunc(slices.Clone(rs.Hooks), func(h rules.Hook) bool { return h.Table == rules.NAT && d.lacks&rules.FeatureNAT != 0 })
	if d.needed != 0 {
		rules.Prune(&rs)
	}
	return rs
}

// rule returns the rules that stand in place of one.
func (d *degrader) rule(r rules.Rule) []rules.Rule {
	lack := r.Needs() & d.lacks
	d.needed |= lack
	if lack&(rules.FeatureRPFilter|rules.FeatureLimit|rules.FeatureSCTP|rules.FeatureLog|rules.FeatureNFLog|rules.FeatureTCPMSS) != 0 {
		return nil
	}
	if lack&rules.FeatureConntrack != 0 {
		if r.Ct.State == 0 || !r.Ct.NotState {
			return nil
		}
		r.Ct = rules.CtMatch{}
	}
	if lack&rules.FeatureReject != 0 {
		r.Target = rules.Target{Verb: rules.Drop}
	}
	if lack&rules.FeatureAddrType != 0 {
		return d.toAddresses(r)
	}
	return []rules.Rule{r}
}

// toAddresses replaces a match on this host's addresses by one on each of them.
func (d *degrader) toAddresses(r rules.Rule) []rules.Rule {
	var list []rules.Rule
	for _, a := range d.locals {
		one := r
		one.SrcType, one.DstType = "", ""
		if r.SrcType == rules.Local {
			if prefix.Covers(r.Src, a) {
				one.Src = prefix.Single(a)
			} else {
				continue
			}
		}
		if r.DstType == rules.Local {
			if prefix.Covers(r.Dst, a) {
				one.Dst = prefix.Single(a)
			} else {
				continue
			}
		}
		list = append(list, one)
	}
	return list
}
