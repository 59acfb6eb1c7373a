// Package rules has iptables rules as values: what they match and do, their text and
// identity, and what iptables, the kernel and both variants accept of them.
//
// It runs no program and decides nothing about tunnels. Texts go to iptables-restore by
// package plan, and come back from iptables-save by package live.
package rules
