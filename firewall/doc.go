// Package firewall decides from tunnels and the host which packets are a tunnel's, and
// compiles that into iptables rules: Compile returns the chains and rules that a host
// should have.
//
// Rules are values of package rules. Below it, package trace runs a packet through a
// rule set, package live reads the live rules, and package plan finds the commits from them
// to the wanted ones.
//
// The package does no I/O and runs no program: that is firewall/iptables' work.
// Nothing that a peer can choose as text ever enters a rule: rules are made of
// prefixes, numbers and names of this host's interfaces.
package firewall
