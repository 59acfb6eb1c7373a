// Package prove answers questions about all packets at once: whether the properties hold,
// how two layouts differ, and whether the tests of the configuration do (RunTests). Package
// space holds the packets as sets, evaluate runs them through the rules of an engine, and
// judge computes the verdicts that the facts demand. A set is known by its decision diagram,
// so that "no packet passes" is a comparison with the empty set.
//
// A packet here has at most one SA on its path and one ahead. A packet of several is
// beyond it, as are fragments and time. Rules are those of iptables, with or without a
// table of nftables beside them, or a table that decides alone.
package prove
