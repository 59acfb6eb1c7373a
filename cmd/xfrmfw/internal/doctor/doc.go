// Package doctor finds causes on a host that would defeat the rules of xfrmfw, or that
// they can't mend: other firewalls, kernel settings, missing parts, tunnels that
// are only half there. Each finding names the observation, its effect, and
// the command or line that mends it.
//
// The package does no I/O. It judges an Input, which doctor/gather reads
// from the host.
package doctor
