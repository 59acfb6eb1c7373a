// Package rules holds iptables rules as values: their matches and targets, their text and
// identity, and the limits of iptables, the kernel and both variants.
//
// It runs no program and decides nothing about tunnels. Texts go to iptables-restore by
// package plan, and come back from iptables-save by package live.
package rules
