// Package firewall decides from tunnels and the host what is a tunnel's traffic, and
// compiles that into iptables rules: Compile returns the chains and rules that a host
// should have.
//
// Rules are values of package rules. Below it, package trace tells what a rule set does to a
// packet, package live reads what stands, and package plan finds the commits from there to
// what is wanted.
//
// The package does no I/O and runs no program: that is firewall/iptables' work.
// Nothing that a peer can choose as text ever enters a rule: rules are made of
// prefixes, numbers and names of this host's interfaces.
package firewall
