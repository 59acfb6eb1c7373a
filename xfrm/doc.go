// Package xfrm holds the Linux kernel's IPsec state, as plain values:
// security associations (State), policies (Policy) and the facts about the host
// that decide how a decrypted packet looks (Host). It decodes the kernel's
// netlink messages into a Snapshot and joins states and policies into Tunnels.
//
// The package does no I/O: reading the kernel is xfrm/kernel's work. It never
// holds key material: the decoder reduces every algorithm attribute to its name.
package xfrm
