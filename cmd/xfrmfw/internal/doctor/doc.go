// Package doctor finds what on a host would defeat the rules of xfrmfw, or what
// they can't mend: other firewalls, kernel settings, missing parts, tunnels that
// are only half there. Each finding says what was seen, what that breaks, and
// the command or line that mends it.
//
// The package does no I/O. What it judges is in Input; doctor/gather reads that
// from the host.
package doctor
