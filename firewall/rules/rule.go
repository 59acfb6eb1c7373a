package rules

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Table is an iptables table.
type Table string

// The tables that xfrmfw writes to.
const (
	Mangle Table = "mangle"
	Filter Table = "filter"
	NAT    Table = "nat"
)

// Priority returns the kernel's priority of a table at the hook of a builtin chain (NF_IP_PRI_*),
// by which packets meet several tables in turn. It is false for a table that iptables has not.
func (t Table) Priority(hook string) (priority int32, ok bool) {
	switch t {
	case "raw":
		return -300, true
	case Mangle:
		return -150, true
	case Filter:
		return 0, true
	case "security":
		return 50, true
	case NAT: // of destinations, or of sources
		if hook == "PREROUTING" || hook == "OUTPUT" {
			return -100, true
		}
		return 100, true
	}
	return 0, false
}

// tables are the tables in the order of commits: a rule that accepts on a verdict must
// not stand without the rules that reach it, and no tunnel traffic is accepted
// before it is exempted from NAT.
var tables = [...]Table{Mangle, NAT, Filter}

// Order returns the place of a table in the order in which tables are committed
// and listed. A table that xfrmfw never writes to comes after all others.
func (t Table) Order() int {
	if i := slices.Index(tables[:], t); i >= 0 {
		return i
	}
	return len(tables)
}

// Ours reports whether xfrmfw writes to the table.
func (t Table) Ours() bool { return t.Order() < len(tables) }

// Rule is one iptables rule. It is comparable; the zero value of each field
// means that the field is not matched on, so Rule{} matches every packet and
// does nothing but count.
type Rule struct {
	Src, Dst netip.Prefix
	// In and Out are names of interfaces of this host.
	In, Out string
	Proto   xfrm.Proto
	// SPorts and DPorts need Proto TCP, UDP or SCTP.
	SPorts, DPorts firewall.Ports
	// ICMP needs Proto ICMP or ICMPv6.
	ICMP ICMPMatch
	// SrcType and DstType match on the kind of address, e.g. Local.
	SrcType, DstType AddrType
	Mark             MarkMatch
	Policy           PolicyMatch
	Ct               CtMatch
	// RPFilterInvert matches a packet with a source that is not reached by the
	// interface it came in by (rpfilter --invert); PREROUTING of mangle only.
	RPFilterInvert bool
	// Limit bounds how often the rule matches.
	Limit  Limit
	Target Target
	// Purpose says why the rule is there; Tunnel is the ID of the tunnel that
	// it serves, empty for shared rules. Both are part of the comment.
	Purpose Purpose
	Tunnel  string
	// Case is the case that the rule decides, or leads to the drop of; NoCase where
	// several share the rule. It is no part of the rule's text and comment.
	Case firewall.Case
}

// ICMPMatch is an ICMP type and, where HasCode is set, code.
type ICMPMatch struct {
	Set     bool
	Type    uint8
	HasCode bool
	Code    uint8
}

// AddrType is a kind of address (addrtype match).
type AddrType string

// Local is an address of this host.
const Local AddrType = "LOCAL"

// MarkMatch matches if mark&Mask == Value, or the reverse under Not. A zero
// Mask is no match at all.
type MarkMatch struct {
	Value, Mask uint32
	Not         bool
}

// PolicyDir is the direction of a policy match.
type PolicyDir uint8

// The directions of a policy match. PolicyIn asks for the states that the
// packet came out of, PolicyOut for the transforms that it will go through.
const (
	NoPolicy PolicyDir = iota
	PolicyIn
	PolicyOut
)

// PolicyMatch is a policy match, always non-strict: it holds if any one of the
// packet's states fits all given fields (net/netfilter/xt_policy.c).
type PolicyMatch struct {
	Dir PolicyDir
	// None matches packets without any transform; the other fields are then zero.
	None bool
	// Proto is ESP or AH; 0 is any.
	Proto xfrm.Proto
	// Reqid is matched where HasReqid is set: 0 is a valid one (manual keying).
	Reqid    uint32
	HasReqid bool
	// TunnelSrc and TunnelDst compare outer addresses, of states in tunnel mode. The
	// kernel takes them for addresses of the inner packet's family, so where the
	// outer one is another, prefix.OuterIn compares them.
	TunnelSrc, TunnelDst netip.Prefix
}

// CtState is a set of conntrack states, for the conntrack match.
type CtState uint8

// The conntrack states that rules match on. CtSNAT and CtDNAT are the virtual
// states of flows with a rewritten source or destination.
const (
	CtRelated CtState = 1 << iota
	CtEstablished
	CtSNAT
	CtDNAT
)

// CtDir is a direction within a conntrack flow.
type CtDir uint8

// The directions of a flow.
const (
	CtAnyDir CtDir = iota
	CtOriginal
	CtReply
)

// CtMatch is a conntrack match. NotState and so on invert their field.
type CtMatch struct {
	State    CtState
	NotState bool
	Dir      CtDir
	// OrigSrc, OrigDst, ReplSrc and ReplDst match the flow's tuples.
	OrigSrc, OrigDst, ReplSrc, ReplDst             netip.Prefix
	NotOrigSrc, NotOrigDst, NotReplSrc, NotReplDst bool
	// Proto is the flow's protocol, which is not that of an ICMP error about it;
	// OrigSPorts and OrigDPorts are ports of its original direction (ranges since
	// revision 3 of the match, Linux 2.6.39).
	Proto                  xfrm.Proto
	OrigSPorts, OrigDPorts firewall.Ports
}

// Limit is the rate of the limit match: PerSecond with a Burst. Zero is none.
type Limit struct{ PerSecond, Burst uint16 }

// Verb is the kind of a target.
type Verb uint8

// The verbs. Count does nothing: a rule without a target.
const (
	Count Verb = iota
	Accept
	Drop
	Return
	Jump
	Goto
	SetMark
	Reject
	ClampMSS
	Log
	NFLog
)

// verbNames are the verbs as messages and tests print them.
var verbNames = [...]string{
	Count: "count", Accept: "accept", Drop: "drop", Return: "return", Jump: "jump", Goto: "goto",
	SetMark: "set mark", Reject: "reject", ClampMSS: "clamp MSS", Log: "log", NFLog: "nflog",
}

// String returns the verb as a word.
func (v Verb) String() string {
	if int(v) < len(verbNames) {
		return verbNames[v]
	}
	return fmt.Sprintf("verb %d", uint8(v))
}

// Target is the action on a packet that matches.
type Target struct {
	Verb Verb
	// Chain is that of Jump and Goto.
	Chain string
	// Value and Mask are those of SetMark: mark = mark&^Mask | Value, rendered
	// as --set-xmark, the only form that leaves other bits alone. Value must
	// lie within Mask.
	Value, Mask uint32
	// Size is the maximum segment size of ClampMSS.
	Size uint16
	// Prefix is that of Log and NFLog, from the fixed alphabet of comments;
	// Group is NFLog's.
	Prefix string
	Group  uint16
}

// Purpose says why a rule is there. The verdict cases are those of xfrmfw(7).
type Purpose string

// Chain is a chain of ours and its rules.
type Chain struct {
	Table Table
	Name  string
	Rules List
}

// ChainKey names a chain of a family.
type ChainKey struct {
	Table Table
	Name  string
}

// Hook is one of our jumps: it stands first in the builtin chain From and leads
// to the chain To.
type Hook struct {
	Table Table
	From  string
	To    string
}

// Ruleset is all that xfrmfw wants to stand in one family. Chains are sorted by
// the order of their table and by name, hooks by table and chain.
type Ruleset struct {
	Family xfrm.Family
	Chains []Chain
	Hooks  []Hook
}
