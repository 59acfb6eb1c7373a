// Package doctor finds causes on a host that would defeat the rules of xfrmfw, or cut
// tunnels beside them: other firewalls, kernel settings, missing parts, tunnels without
// their SAs or policies. Each finding names the observation, its effect, and the command
// or line that repairs it.
//
// The package does no I/O. It judges an Input, which doctor/gather reads
// from the host.
package doctor
