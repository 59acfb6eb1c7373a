// Package wire reads the messages of NETLINK_XFRM: a dump's states and policies into a
// Snapshot of package xfrm (Decoder), a notification into its kind (Classify) and the
// record that it is about (Note).
//
// The layout of the structs is that of include/uapi/linux/xfrm.h on each architecture. An
// attribute or value that no known kernel has is listed in Snapshot.Skipped, never guessed.
// The package does no I/O; xfrm/kernel reads the sockets. Key material stays in the message:
// of an algorithm the Decoder takes the name and lengths.
package wire
