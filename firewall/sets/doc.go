// Package sets holds an nftables table as values: base chains, rules made of
// typed matches and statements, sets and their elements. It renders a table as
// text for people and finds the changes that lead from one table to another.
// It does no I/O: package nftables exchanges messages with the kernel.
//
// A table is of the family inet, so one transaction serves IPv4 and IPv6.
// All parts of one tunnel are elements of sets; rules change
// only with a new pair of prefix lengths, a device or the configuration.
package sets
