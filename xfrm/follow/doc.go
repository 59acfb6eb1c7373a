// Package follow keeps a snapshot of package xfrm in step with the kernel's notifications.
// An Index tells which of them can change a rule; most, such as those of a rekey, do not.
// A Follower gives the snapshot as it is after them, for rules that are to be in force before
// the kernel is read again.
//
// The package does no I/O: the notifications come as wire.Note. One that it cannot judge asks
// for a look at the kernel.
package follow
