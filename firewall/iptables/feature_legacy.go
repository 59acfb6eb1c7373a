package iptables

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// legacySocket asks x_tables by the socket option with which iptables-legacy asks
// for the revision of an extension. The kernel loads its module for that.
type legacySocket struct {
	fd, level, match, target int
}

// askLegacy opens the socket. It needs CAP_NET_RAW, as iptables-legacy does.
func askLegacy(family xfrm.Family) (asker, error) {
	// IPT_SO_GET_REVISION_MATCH and _TARGET, IP6T_SO_GET_REVISION_MATCH and _TARGET.
	domain, s := unix.AF_INET, legacySocket{level: unix.IPPROTO_IP, match: 66, target: 67}
	if family == xfrm.IPv6 {
		domain, s = unix.AF_INET6, legacySocket{level: unix.IPPROTO_IPV6, match: 68, target: 69}
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("ask x_tables for features: %w", err)
	}
	s.fd = fd
	return s, nil
}

func (s legacySocket) close() { _ = unix.Close(s.fd) }

// has reports whether the kernel has an extension in some revision.
func (s legacySocket) has(name string, target bool) bool {
	option := s.match
	if target {
		option = s.target
	}
	var revision struct { // struct xt_get_revision
		name     [29]byte
		revision byte
	}
	copy(revision.name[:28], name)
	size := uint32(unsafe.Sizeof(revision))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), uintptr(s.level), uintptr(option),
		uintptr(unsafe.Pointer(&revision)), uintptr(unsafe.Pointer(&size)), 0)
	// EPROTONOSUPPORT is another revision. Anything else says nothing about the name,
	// such as ENOPROTOOPT where ip_tables itself is not loaded yet.
	return errno == 0 || !errors.Is(errno, unix.ENOENT)
}
