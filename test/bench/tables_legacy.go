package main

import (
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// legacySizes tells how large the tables are that a tunnel is part of: a commit that
// adds or takes a rule changes it, and it is told before a commit or after it. It
// is not told of a table that was never used.
func legacySizes() (string, error) {
	const getInfo, size = 64, 84 // IPT_SO_GET_INFO, struct ipt_getinfo
	var all strings.Builder
	for _, family := range []struct{ domain, level int }{{unix.AF_INET, unix.SOL_IP}, {unix.AF_INET6, unix.SOL_IPV6}} {
		fd, err := unix.Socket(family.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return "", err
		}
		for _, table := range []string{"mangle", "filter"} {
			var info [size]byte
			copy(info[:], table)
			n := uint32(len(info))
			_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(family.level), getInfo,
				uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&n)), 0)
			runtime.KeepAlive(&info)
			if errno != 0 {
				_ = unix.Close(fd)
				return "", fmt.Errorf("ask for the size of %s: %w", table, errno)
			}
			fmt.Fprintf(&all, "%x ", info[76:]) // num_entries and size
		}
		_ = unix.Close(fd)
	}
	return all.String(), nil
}
