package fake

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

var (
	hashSuffix = regexp.MustCompile(`^(XFRMFW-(?:LAN-[A-Z]|NATED-[SD]|CARRIER))-.*$`)
	nodeSuffix = regexp.MustCompile(`^(XFRMFW-[A-Z]+(?:-(?:IN|OUT|T|SPOOF|INJECT|LEAK))?)(?:W?-.*)?$`)
	// Words that only name the traffic of a rule do not make it another kind.
	scopeWords = regexp.MustCompile(` ?(?:-[sd] [0-9a-f.:]+/[0-9]+|-[io] (?:eth|ipsec|gre|gnv|tap|vti|br|red|vx|vrf|leased)[-.a-z0-9]*|-p (?:47|tcp) -m tcp|-p 47|--ctproto 47|--[sd]port [0-9:]+|--mode tunnel|--tunnel-(?:src|dst) [0-9a-f.:]+(?:/[0-9]+)?)`)
	valueWords = regexp.MustCompile(`(--(?:reqid|set-mss|ctorigsrc|ctorigdst|ctreplsrc|ctrepldst|ctorigsrcport|ctorigdstport)) [0-9a-f.:]+(?:/[0-9]+)?`)
	icmpWords  = regexp.MustCompile(`-p (?:icmp|ipv6-icmp) -m icmp6? --icmp(?:v6)?-type [0-9]+`)
	// Log prefixes name the tunnel.
	logWords  = regexp.MustCompile(`(-prefix xfrmfw:(?:in|out|remote)):\S+`)
	markWords = regexp.MustCompile(`\b0x([1-3])000000\b`)
	chainWord = regexp.MustCompile(`XFRMFW-\S+`)
)

// Kind names the rules that are alike but for the tunnel that they serve.
func Kind(c rules.Chain, family xfrm.Family, r rules.Rule) string {
	text := scopeWords.ReplaceAllString(r.Text(family), "")
	text = valueWords.ReplaceAllString(text, "$1 X")
	text = logWords.ReplaceAllString(text, "$1:X")
	text = markWords.ReplaceAllString(text, "0x${1}0000000")
	text = icmpWords.ReplaceAllString(text, "-p icmp --icmp-type N")
	text = strings.NewReplacer("ipv6-icmp", "icmp", "icmp6-adm", "icmp-admin").Replace(text)
	text = strings.Join(strings.Fields(text), " ")
	text = chainWord.ReplaceAllStringFunc(text, rootOf)
	return fmt.Sprintf("%s %s %s: %s", c.Table, rootOf(c.Name), r.Purpose, text)
}

// rootOf is a chain's name without the part that tells it from others of its kind.
func rootOf(chain string) string {
	chain = hashSuffix.ReplaceAllString(chain, "$1")
	if strings.HasPrefix(chain, "XFRMFW-SVC-") {
		return "XFRMFW-SVC"
	}
	return nodeSuffix.ReplaceAllString(chain, "$1")
}

// Without returns a rule set without some of its rules.
func Without(rs rules.Ruleset, is func(c rules.Chain, i int, r rules.Rule) bool) rules.Ruleset {
	chains := slices.Clone(rs.Chains)
	for at, c := range chains {
		var left []rules.Rule
		for i, r := range c.Rules.All() {
			if !is(c, i, r) {
				left = append(left, r)
			}
		}
		chains[at].Rules = rules.ListOf(left...)
	}
	rs.Chains = chains
	return rs
}

// Kinds is the kind of each rule, by chain.
func Kinds(rs rules.Ruleset) map[rules.ChainKey][]string {
	kinds := make(map[rules.ChainKey][]string, len(rs.Chains))
	for _, c := range rs.Chains {
		at := rules.ChainKey{Table: c.Table, Name: c.Name}
		for _, r := range c.Rules.All() {
			kinds[at] = append(kinds[at], Kind(c, rs.Family, r))
		}
	}
	return kinds
}
