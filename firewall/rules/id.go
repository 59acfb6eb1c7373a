package rules

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Every rule of ours has an identity in its comment:
//
//	xfrmfw:ID/PURPOSE[/TUNNEL]
//
// The ID is a hash of the wanted rule. Live rules are compared by
// it and never by their text, because iptables-save reorders and respells the text it
// was given (--or-mark comes back as --set-xmark, ports and masks change form).
const (
	// CommentPrefix begins the comment of each rule of ours.
	CommentPrefix = "xfrmfw:"
	IDLen         = 12
	// maxComment is the longest that xt_comment holds; a longer one is cut silently, and
	// then differs from the wanted one for ever.
	maxComment = 255
)

// ChainPrefix begins the names of all chains of ours.
const ChainPrefix = "XFRMFW-"

// PurposeJump is the purpose of our jumps in the builtin chains.
const PurposeJump Purpose = "jump"

// Ours reports whether a chain of that name belongs to xfrmfw.
func Ours(chain string) bool { return strings.HasPrefix(chain, ChainPrefix) }

// ID is the identity of a rule: 72 bits of a hash over its family, table, chain,
// text, purpose and tunnel. Equal rules within one chain share it.
func ID(family xfrm.Family, table Table, chain string, r Rule) string {
	return string(AppendID(nil, family, table, chain, AppendRule(nil, family, r), r))
}

// AppendLine appends the rule as it is sent to iptables-restore: its text and
// its comment, without "-A CHAIN". Both variants take the comment after the
// target, and try it as the last match.
func AppendLine(b []byte, family xfrm.Family, table Table, chain string, r Rule) []byte {
	start := len(b)
	b = AppendRule(b, family, r)
	text := b[start:]
	if len(text) > 0 {
		b = append(b, ' ')
	}
	b = append(b, "-m comment --comment "+CommentPrefix...)
	b = AppendID(b, family, table, chain, text, r)
	b = append(append(b, '/'), r.Purpose...)
	if r.Tunnel != "" {
		b = append(append(b, '/'), r.Tunnel...)
	}
	return b
}

// Rule returns the jump that stands first in the built-in chain.
func (h Hook) Rule() Rule {
	return Rule{Target: Target{Verb: Jump, Chain: h.To}, Purpose: PurposeJump}
}

// ID is the identity of the hook's jump.
func (h Hook) ID(family xfrm.Family) string { return ID(family, h.Table, h.From, h.Rule()) }

// AppendID appends the ID of a rule with the text that AppendRule made of it.
func AppendID(id []byte, family xfrm.Family, table Table, chain string, text []byte, r Rule) []byte {
	var stack [512]byte
	b := append(stack[:0], byte(family))
	// No field can hold a zero byte, so the fields can't run into each other.
	b = append(append(b, table...), 0)
	b = append(append(b, chain...), 0)
	b = append(append(b, text...), 0)
	b = append(append(b, r.Purpose...), 0)
	b = append(b, r.Tunnel...)
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.AppendEncode(id, sum[:IDLen/4*3])
}

// ParseComment splits a comment of ours; ok is false for any other comment.
func ParseComment(comment string) (id string, purpose Purpose, tunnel string, ok bool) {
	rest, ok := strings.CutPrefix(comment, CommentPrefix)
	if !ok || len(rest) < IDLen+2 || rest[IDLen] != '/' || !safeText(rest) {
		return "", "", "", false
	}
	id, rest = rest[:IDLen], rest[IDLen+1:]
	word, tunnel, _ := strings.Cut(rest, "/")
	return id, Purpose(word), tunnel, word != ""
}

// safeText reports whether s is within the alphabet of comments, none of which
// means anything to iptables-restore, a shell or a log. A newline ends a rule
// even within quotes, so a comment must never carry text that a peer or user chose.
func safeText(s string) bool {
	for i := range len(s) {
		if !device.SafeByte(s[i]) {
			return false
		}
	}
	return true
}
