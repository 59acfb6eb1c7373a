// Package xfrm holds the Linux kernel's IPsec state, as plain values:
// security associations (State), policies (Policy) and the facts about the host
// that decide how a decrypted packet looks (Host). A Snapshot has them all, is
// sorted, validated, and written and read as JSON; Tunnels joins its states
// and policies.
//
// The package does no I/O. Its neighbours: xfrm/wire decodes netlink messages,
// xfrm/kernel reads them from the kernel, xfrm/follow keeps a snapshot in step
// with notifications. No type has room for key material: an algorithm is its
// name and lengths.
package xfrm
