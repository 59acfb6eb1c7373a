// Package expect holds packets in words with the verdict that they must have.
package expect

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Test is packets with the verdict that each of them must have. A field that is not set
// leaves a choice: the verdict must hold for each. Interfaces follow from the routes.
type Test struct {
	Name string
	// In and Out are interfaces: with Out alone this host sends the packets.
	In, Out  string
	Src, Dst netip.Prefix
	Proto    xfrm.Proto
	// SPorts and DPorts need Proto TCP, UDP or SCTP.
	SPorts, DPorts firewall.Ports
	// ICMP needs Proto ICMP or ICMPv6.
	ICMP rules.ICMPMatch
	// Reqid is that of the SA that they came out of, where HasReqid is set; TAG is true
	// if they carry TAG.
	Reqid    uint32
	HasReqid bool
	Tag      bool
	// Established is true for packets of flows that were let through.
	Established bool
	Expect      Verdict
}

// Verdict is an action, and a case where Word is set.
type Verdict struct {
	// Action is accept, drop, reject or leave. A drop may be a reject too.
	Action string
	Word   string
}

// String returns the verdict as the configuration has it.
func (e Verdict) String() string { return strings.TrimSpace(e.Action + " " + e.Word) }

// dropWords are the words for the cases of drops, besides their numbers.
var dropWords = map[string][]firewall.Case{
	"spoof": {firewall.Case6}, "inject": {firewall.Case6b}, "crossed": {firewall.Case7, firewall.Case7b},
	"leak":        {firewall.Case8, firewall.Case8b, firewall.Case8c, firewall.Case8d},
	"unconfirmed": {firewall.Case3}, "restricted": {firewall.NoCase}, "lockdown": {firewall.NoCase},
	"3": {firewall.Case3}, "6": {firewall.Case6}, "6b": {firewall.Case6b}, "7": {firewall.Case7}, "7b": {firewall.Case7b},
	"8": {firewall.Case8}, "8b": {firewall.Case8b}, "8c": {firewall.Case8c}, "8d": {firewall.Case8d},
}

// passWords are the words for the cases of packets that pass.
var passWords = map[string]rules.Purpose{
	"verified": rules.PurposeVerified, "1": rules.PurposeVerified, "related": rules.PurposeRelated, "1b": rules.PurposeRelated,
	"policy-only": rules.PurposePolicyOnly, "2": rules.PurposePolicyOnly, "unconfirmed": rules.PurposeUnconfirmed, "3": rules.PurposeUnconfirmed,
	"overlay": rules.PurposeOverlay, "4": rules.PurposeOverlay, "open": rules.PurposeOpen, "service": rules.PurposeService,
}

// Parse reads an action and, behind a blank, a case by its number or word.
func Parse(text string) (Verdict, error) {
	action, word, _ := strings.Cut(text, " ")
	e := Verdict{Action: action, Word: strings.TrimSpace(word)}
	known := false
	switch action {
	case "drop", "reject":
		_, known = dropWords[e.Word]
	case "accept", "leave":
		_, known = passWords[e.Word]
	default:
		return e, fmt.Errorf("%q: write accept, drop, reject or leave, and a case if you like, such as drop spoof", text)
	}
	if e.Word != "" && !known {
		return e, fmt.Errorf("%q: no case of that name goes with %s: write its number or word, such as drop spoof or accept verified", e.Word, action)
	}
	return e, nil
}

// Cases are those of a drop that the word stands for.
func (e Verdict) Cases() []firewall.Case { return dropWords[e.Word] }

// Purpose is that of the rule which tells the case of packets that pass, and false where
// the word stands for none.
func (e Verdict) Purpose() (rules.Purpose, bool) {
	p, ok := passWords[e.Word]
	return p, ok && (e.Action == "accept" || e.Action == "leave")
}
