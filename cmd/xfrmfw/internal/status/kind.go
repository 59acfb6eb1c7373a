package status

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// Kind is the kind of packets that a rule counts; empty for the rules that
// only lead to others.
type Kind string

// Packets out of a tunnel, by their evidence.
const (
	KindVerified    Kind = "verified"
	KindPolicyOnly  Kind = "policy_only"
	KindUnconfirmed Kind = "unconfirmed"
	KindOverlay     Kind = "overlay"
)

// Dropped packets, by the case of the verdict table.
const (
	DropSpoof       Kind = "spoof"
	DropInject      Kind = "inject"
	DropCrossed     Kind = "crossed"
	DropLeak        Kind = "leak"
	DropRestricted  Kind = "restricted"
	DropLockdown    Kind = "lockdown"
	DropUnconfirmed Kind = "dropped_unconfirmed"
)

// Packets worth a look that were not dropped.
const (
	NotedStrayTag Kind = "stray_tag"
	NotedUnknown  Kind = "unknown"
)

// countedAs is the kind that a rule counts. Only a rule that drops counts as dropped, because a case
// may have rules that log it, too.
func countedAs(p rules.Purpose, drops bool) Kind {
	switch p {
	case rules.PurposeVerified, rules.PurposeRelated, rules.PurposeIPComp:
		return KindVerified
	case rules.PurposePolicyOnly:
		return KindPolicyOnly
	case rules.PurposeOverlay:
		return KindOverlay
	case rules.PurposeStray:
		return NotedStrayTag
	case rules.PurposeUnknown:
		return NotedUnknown
	case rules.PurposeUnconfirmed:
		if drops {
			return DropUnconfirmed
		}
		return KindUnconfirmed
	}
	if !drops {
		return ""
	}
	switch p {
	case rules.PurposeSpoof:
		return DropSpoof
	case rules.PurposeInject:
		return DropInject
	case rules.PurposeCrossed:
		return DropCrossed
	case rules.PurposeLeak, rules.PurposeReject:
		return DropLeak
	case rules.PurposeRestricted:
		return DropRestricted
	case rules.PurposeLockdown:
		return DropLockdown
	}
	return ""
}

// count adds a rule's packets to its tunnel's.
func (p *PacketsBy) count(r *Rule) {
	switch r.Kind {
	case KindVerified:
		p.Verified += r.Packets
	case KindPolicyOnly:
		p.PolicyOnly += r.Packets
	case KindUnconfirmed:
		p.Unconfirmed += r.Packets
	case KindOverlay:
		p.Overlay += r.Packets
	}
}

// count adds a rule's packets to the report's sums.
func (r *Report) count(of *Rule) {
	switch of.Kind {
	case NotedStrayTag:
		r.Counts.StrayTag += of.Packets
	case NotedUnknown:
		r.Counts.Unknown += of.Packets
	case DropSpoof:
		r.Drops.Spoof.add(of)
	case DropInject:
		r.Drops.Inject.add(of)
	case DropCrossed:
		r.Drops.Crossed.add(of)
	case DropLeak:
		r.Drops.Leak.add(of)
	case DropRestricted:
		r.Drops.Restricted.add(of)
	case DropLockdown:
		r.Drops.Lockdown.add(of)
	case DropUnconfirmed:
		r.Drops.Unconfirmed.add(of)
	}
}

func (c *Counter) add(of *Rule) {
	c.Packets += of.Packets
	c.Bytes += of.Bytes
}
