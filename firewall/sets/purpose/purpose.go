// Package purpose tells the purpose of a live chain or set of the table by its name, which is
// the only sign of it.
package purpose

import (
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// OfChain returns the purpose of the rules that count in a chain of the table; ok is
// false for a chain that counts nothing.
func OfChain(chain string) (p rules.Purpose, ok bool) {
	if strings.HasPrefix(chain, "restrict_") {
		return rules.PurposeRestricted, true
	}
	p, ok = chainPurposes()[stem(chain)]
	return p, ok
}

// OfSet returns the purpose of the elements of a set of the table.
func OfSet(set string) (p rules.Purpose, ok bool) {
	for _, marked := range []string{"pim", "pfm", "pom"} { // a mark in hexadecimal follows
		if strings.HasPrefix(set, marked) {
			return rules.PurposePierce, true
		}
	}
	p, ok = setPurposes()[stem(set)]
	return p, ok
}

// stem returns a name without the family and the lengths of prefixes behind it.
func stem(name string) string {
	if i := strings.IndexAny(name, "0123456789"); i >= 0 {
		return name[:i]
	}
	return name
}

func chainPurposes() map[string]rules.Purpose {
	return map[string]rules.Purpose{
		"drop_spoof": rules.PurposeSpoof, "drop_inject": rules.PurposeInject, "drop_crossed": rules.PurposeCrossed,
		"drop_leak": rules.PurposeLeak, "drop_refuse": rules.PurposeReject,
		"drop_unconfirmed": rules.PurposeUnconfirmed, "drop_lockdown": rules.PurposeLockdown,
		"stray": rules.PurposeStray, "unverify": rules.PurposeStray, "tag_": rules.PurposeTag, "errors": rules.PurposeRelated,
	}
}

func setPurposes() map[string]rules.Purpose {
	return map[string]rules.Purpose{
		// Evidence, cases 1 to 4.
		"c": rules.PurposeVerified, "carrier": rules.PurposeVerified, "bare": rules.PurposePolicyOnly,
		"untagged": rules.PurposeUnconfirmed, "untaggable": rules.PurposePolicyOnly, "spared": rules.PurposeUntagged,
		"ipcomp": rules.PurposeIPComp, "overlaid": rules.PurposeOverlay, "out_of": rules.PurposeOverlay, "encap": rules.PurposeTag,
		// Case 7, and the owners of sources.
		"known": rules.PurposeCrossed, "carried": rules.PurposeCrossed, "unknown": rules.PurposeUnknown,
		"own": rules.PurposeForeign, "owned": rules.PurposeForeign,
		// Guards of pairs (g, ge, gl), of destinations (d, dl), of peers and of remote
		// selectors (rem), and their exceptions inbound, forwarded and outbound.
		"g": rules.PurposeSpoofGuard, "ge": rules.PurposeSpoofGuard, "gl": rules.PurposeSpoofGuard, "peer": rules.PurposeSpoofGuard, "peere": rules.PurposeSpoofGuard,
		"d": rules.PurposeLeakGuard, "dl": rules.PurposeLeakGuard, "rem": rules.PurposeLeakGuard, "refused": rules.PurposeReject,
		"pi": rules.PurposePierce, "pf": rules.PurposePierce, "po": rules.PurposePierce, "lan": rules.PurposeLAN, "inside": rules.PurposeLAN,
		"home": rules.PurposeExempt, "partly": rules.PurposeInjectGuard, "inner": rules.PurposeInjectGuard,
		// Configuration.
		"restrict_in": rules.PurposeRestricted, "restrict_out": rules.PurposeRestricted,
		"keep": rules.PurposeNATKeep, "mss": rules.PurposeMSS,
	}
}
