package compile

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The mutation campaign of scripts/soak takes each kind of rule that the compiler emits
// out of the rule sets, and then each single rule, and runs the tests. A rule that no
// test misses is either a second line of defence or untested.
//
//	XFRMFW_RULES=FILE  appends the rules that the tests compile to a file: its
//	                   kind, the rule, and the test, with tabs between
//	XFRMFW_WITHOUT=X   takes this kind, or this rule, out before packets are
//	                   traced

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

// kind names the rules that are alike but for the tunnel that they serve.
func kind(c rules.Chain, family xfrm.Family, r rules.Rule) string {
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

// name names a single rule, wherever it is compiled.
func name(c rules.Chain, family xfrm.Family, r rules.Rule) string {
	return fmt.Sprintf("%s %s %s %s: %s %s", family, c.Table, c.Name, r.Purpose, r.Text(family), r.Tunnel)
}

// rootOf is a chain's name without the part that tells it from others of its kind.
func rootOf(chain string) string {
	chain = hashSuffix.ReplaceAllString(chain, "$1")
	if strings.HasPrefix(chain, "XFRMFW-SVC-") {
		return "XFRMFW-SVC"
	}
	return nodeSuffix.ReplaceAllString(chain, "$1")
}

func mutate(t *testing.T, rs rules.Ruleset) rules.Ruleset {
	t.Helper()
	if file := os.Getenv("XFRMFW_RULES"); file != "" {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range rs.Chains {
			for _, r := range c.Rules.All() {
				test, _, _ := strings.Cut(t.Name(), "/")
				_, _ = fmt.Fprintf(f, "%s\t%s\t%s\n", kind(c, rs.Family, r), name(c, rs.Family, r), test)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	what := os.Getenv("XFRMFW_WITHOUT")
	if what == "" {
		return rs
	}
	return without(rs, func(c rules.Chain, _ int, r rules.Rule) bool {
		return name(c, rs.Family, r) == what || kind(c, rs.Family, r) == what
	})
}

// without takes rules out of a rule set.
func without(rs rules.Ruleset, is func(c rules.Chain, i int, r rules.Rule) bool) rules.Ruleset {
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
