package kernel

// NoIPv6 reports whether the kernel runs without IPv6, as Host.NoIPv6 does, for
// a caller that wants to know nothing else.
func NoIPv6() bool {
	var r Reader
	return r.noIPv6()
}

// noIPv6 looks for a file that is missing with ipv6.disable=1 or without the
// module. The directory is looked at too, so that a missing /proc does not say
// "no IPv6".
func (r *Reader) noIPv6() bool {
	return r.exists("/proc/net") && !r.exists("/proc/net/if_inet6")
}
