// Package firewall says which packets of a host are a tunnel's. Judge gives the verdict on
// a packet by the Facts, which package decide finds from an Input. Read judge.go first: it
// is the table of verdicts, and every engine is tested against it. It has the drops of
// cases 3, 6, 7 and 8. The evidence of cases 1 to 4 is in judge_evidence.go; 8e, open ports,
// restrictions and lockdown are in judge_limits.go.
//
//	decide    facts from tunnels, host and configuration
//	device    interfaces of tunnels and uplinks
//	guard     pairs of selectors that must not pass in clear, and their memory
//	rules     the iptables engine: rules as values, compiled from Facts case by case
//	          (rules/compile, rules/accept) with the parts that all cases share
//	          (rules/layout), in trees of chains (rules/tree), without the extensions that a host lacks
//	          (rules/degrade), run for a packet (rules/trace), read back (rules/live),
//	          compared (rules/plan)
//	sets      the nftables engine: a table as values, laid out from Facts (sets/program);
//	          a part of that table stands beside the iptables engine too
//	foreign   the nftables chains of other programs
//	prove     all packets at once, against Judge; the tests of the configuration
//	          (prove/expect)
//	iptables  runs programs
//	nftables  speaks netlink, in the format of nftables/wire
//
// All packages but iptables and nftables are pure.
//
// No rule, chain or set is in this package, and no text that a peer can choose enters a
// rule: rules are made of prefixes, numbers and names of this host's interfaces.
package firewall
