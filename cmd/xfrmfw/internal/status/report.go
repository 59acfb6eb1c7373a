package status

import (
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Schema is the version of the report's JSON form. Keys may be added to it,
// never changed or removed.
const Schema = 1

// Report is the state of all tunnels and of the rules that serve them, in the
// shape of its JSON form. Lists are never nil.
type Report struct {
	Schema int `json:"schema"`
	// Time is when the kernel was read, in RFC 3339; empty if not known.
	Time string `json:"time"`
	// Engine is "iptables" or "nftables".
	Engine string `json:"engine"`
	// Variant is "nft" or "legacy"; empty, and null in JSON, for a snapshot and without
	// iptables.
	Variant text.OrNull `json:"variant"`
	Marks   Marks       `json:"marks"`
	Daemon  Daemon      `json:"daemon"`
	Tunnels []Tunnel    `json:"tunnels"`
	// SharedRules serve no tunnel alone, or one that is gone.
	SharedRules []Rule  `json:"shared_rules"`
	Guards      []Guard `json:"guards"`
	// Lines are the remembered routes beside a tunnel: guards let their networks pass
	// there.
	Lines []Line `json:"lines"`
	// Ignored lists the objects for which no rule is made, and why.
	Ignored []xfrm.Ignored `json:"ignored"`
	Drops   Drops          `json:"drops"`
	Counts  Counts         `json:"counts"`
	InSync  Sync           `json:"in_sync"`
	// Pending is true if rules of apply --confirm wait for their confirmation.
	Pending     bool     `json:"pending"`
	Differences []string `json:"differences"`
	Warnings    []string `json:"warnings"`

	at     time.Time
	total  int
	stands engine.Name // the other engine, if its rules are in force
	// unloaded is true if the live rules were read and none of them is xfrmfw's.
	unloaded bool
}

// Marks are the bits of the fwmark in use.
type Marks struct {
	Tag      uint32 `json:"tag"`
	Verified uint32 `json:"verified"`
}

// Daemon is the state of the daemon. The zero value is none.
type Daemon struct {
	Running bool `json:"running"`
	// LastReconcile is when the rules were last made or found right, in RFC
	// 3339, by the daemon or by the command that ReconciledBy names; empty for
	// never.
	LastReconcile string `json:"last_reconcile"`
	ReconciledBy  string `json:"reconciled_by"`
	// LastError is the failure of the last attempt, empty if it did not fail.
	LastError string `json:"last_error"`
}

// Tunnel is one tunnel with all that belongs to it.
type Tunnel struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Connection string   `json:"connection"`
	PeerID     string   `json:"peer_id"`
	User       string   `json:"user"`
	VirtualIPs []string `json:"virtual_ips"`
	State      State    `json:"state"`
	Reqid      uint32   `json:"reqid"`
	Mode       string   `json:"mode"`
	// Local and Remote are the outer addresses, empty where they are open.
	Local  string `json:"local"`
	Remote string `json:"remote"`
	IfID   uint32 `json:"if_id"`
	// Configured is true if Name is the configuration's.
	Configured bool `json:"-"`
	// Mark is the value and mask by which the policies are found; empty for none.
	Mark      string            `json:"mark"`
	Selectors []Selector        `json:"selectors"`
	Evidence  firewall.Evidence `json:"evidence"`
	// Reason says why the evidence is less than it could be.
	Reason    string    `json:"reason"`
	PacketsBy PacketsBy `json:"packets_by"`
	SAs       []SA      `json:"sas"`
	Rules     []Rule    `json:"rules"`
	// GuardedBy has the IDs of shared rules that guard its pairs and its
	// neighbours'.
	GuardedBy []string `json:"-"`
}

// State says whether a tunnel can carry traffic.
type State string

// The states. The states and policies of a remembered tunnel are gone.
const (
	Up         State = "up"
	Down       State = "down"
	Remembered State = "remembered"
)

// Selector is a pair of traffic selectors, seen from this host. For ICMP the
// ports are type and code.
type Selector struct {
	Local      string `json:"local"`
	Remote     string `json:"remote"`
	Proto      string `json:"proto"`
	LocalPort  string `json:"local_port"`
	RemotePort string `json:"remote_port"`
}

// PacketsBy counts the packets that came out of a tunnel by the evidence that
// they had.
type PacketsBy struct {
	Verified    uint64 `json:"verified"`
	PolicyOnly  uint64 `json:"policy_only"`
	Unconfirmed uint64 `json:"unconfirmed"`
	Overlay     uint64 `json:"overlay"`
}

// Total is the sum over all kinds of evidence.
func (p PacketsBy) Total() uint64 { return p.Verified + p.PolicyOnly + p.Unconfirmed + p.Overlay }

// String lists the kinds that have packets, "0" if none has.
func (p PacketsBy) String() string {
	var words []string
	for _, by := range []struct {
		name string
		n    uint64
	}{{"verified", p.Verified}, {"policy-only", p.PolicyOnly}, {"unconfirmed", p.Unconfirmed}, {"overlay", p.Overlay}} {
		if by.n > 0 {
			words = append(words, by.name+" "+count(by.n))
		}
	}
	if len(words) == 0 {
		return "0"
	}
	return strings.Join(words, ", ")
}

// SA is an SA of the kernel that serves a tunnel.
type SA struct {
	SPI   string `json:"spi"`
	Dir   string `json:"dir"`
	Proto string `json:"proto"`
	// Encap is empty, or "udp SPORT DPORT" or "tcp SPORT DPORT" with the ports
	// of the outer header.
	Encap      string            `json:"encap"`
	Bytes      uint64            `json:"bytes"`
	Packets    uint64            `json:"packets"`
	AgeSeconds int64             `json:"age_seconds"`
	Evidence   firewall.Evidence `json:"evidence"`
	Reason     string            `json:"reason"`
	// Rules are the IDs of the rules that serve it: its tunnel's for that
	// direction, and the shared ones that its packets pass.
	Rules []string `json:"rules"`
}

// Rule is a rule of ours that stands, or for a snapshot, one that would.
type Rule struct {
	ID      string        `json:"id"`
	Family  string        `json:"family"`
	Table   rules.Table   `json:"table"`
	Chain   string        `json:"chain"`
	Purpose rules.Purpose `json:"purpose"`
	Rule    string        `json:"rule"`
	Packets uint64        `json:"packets"`
	Bytes   uint64        `json:"bytes"`
	// Kind is the kind of its packets.
	Kind Kind `json:"-"`
}

// Guard is a pair of networks between which nothing passes in clear.
type Guard struct {
	Local  string `json:"local"`
	Remote string `json:"remote"`
	// Source is "live", "memory" or "config".
	Source string `json:"source"`
	// Since and Expires are in RFC 3339, empty for not known and never.
	Since   string `json:"since"`
	Expires string `json:"expires"`
}

// Line is a network that an interface beside the tunnel had a route to.
type Line struct {
	Network   string `json:"network"`
	Interface string `json:"interface"`
	// Expires is in RFC 3339.
	Expires string `json:"expires"`
}

// Drops counts dropped packets, by the case of the verdict table.
type Drops struct {
	Spoof       Counter `json:"spoof"`
	Inject      Counter `json:"inject"`
	Crossed     Counter `json:"crossed"`
	Leak        Counter `json:"leak"`
	Restricted  Counter `json:"restricted"`
	Lockdown    Counter `json:"lockdown"`
	Unconfirmed Counter `json:"unconfirmed"`
}

// Counter counts packets and their bytes.
type Counter struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Counts counts packets that were not dropped, but are worth a look.
type Counts struct {
	// StrayTag are packets that carried our bits without evidence for them.
	StrayTag uint64 `json:"stray_tag"`
	// Unknown are packets that came out of no state that we know.
	Unknown uint64 `json:"unknown"`
}

// Sync says whether the live rules are the wanted ones.
type Sync uint8

// The values of Sync. SyncUnknown, null in JSON, is that of a snapshot, beside
// which no live rules were read.
const (
	SyncUnknown Sync = iota
	InSync
	OutOfSync
)

// MarshalJSON renders true, false or null.
func (s Sync) MarshalJSON() ([]byte, error) {
	switch s {
	case InSync:
		return []byte("true"), nil
	case OutOfSync:
		return []byte("false"), nil
	}
	return []byte("null"), nil
}
