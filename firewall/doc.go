// Package firewall turns tunnels into iptables rules, as values: Compile says
// which chains and rules a host should have, Plan which change leads there from
// what a save shows, and Check where the two differ. A packet evaluator (Trace)
// tells what a rule set does to a packet; explain and the tests use it.
//
// The package does no I/O and runs no program: that is firewall/iptables' work.
// Nothing that a peer can choose as text ever enters a rule: rules are made of
// prefixes, numbers and names of this host's interfaces.
package firewall
