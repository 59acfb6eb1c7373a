// Package nftables reads and changes one table of the kernel's nf_tables by
// netlink, without the nft program. Tables are values of package sets: a table that is
// written is read back equal.
//
// A change is one transaction. The kernel refuses it if any table of the network
// namespace has changed since the table was read, and all or nothing of it comes
// into force.
package nftables
