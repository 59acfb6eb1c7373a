// Package prove answers questions about all packets at once. It runs sets of packets
// through rule sets as package trace runs one packet, and knows a set by its decision
// diagram, so that "no packet passes" is a comparison with the empty set.
//
// A packet here has at most one SA on its path and one ahead. A packet of several is
// beyond it, as are fragments and time. RunTests checks the tests of the configuration.
// Rules are those of iptables, with or without a table of nftables beside them, or a table
// that decides alone.
package prove
