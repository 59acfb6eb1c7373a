package kernel

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// xtables are the names and sizes of linux/netfilter_ipv4/ip_tables.h and its IPv6
// sister: the level of the socket options, and of struct ipt_entry where the
// offset of the next one stands, where the counters, and how large it is.
type xtables struct {
	domain, level              int
	nextAt, counters, smallest int
}

func xtablesOf(family xfrm.Family) xtables {
	if family == xfrm.IPv6 {
		return xtables{domain: unix.AF_INET6, level: unix.SOL_IPV6, nextAt: 142, counters: 152, smallest: 168}
	}
	return xtables{domain: unix.AF_INET, level: unix.SOL_IP, nextAt: 90, counters: 96, smallest: 112}
}

const (
	getInfo     = 64 // IPT_SO_GET_INFO
	getEntries  = 65 // IPT_SO_GET_ENTRIES
	infoSize    = 84 // struct ipt_getinfo
	infoEntries = 80 // its size: bytes of all entries
	nameSize    = 32 // XT_TABLE_MAXNAMELEN
	entriesAt   = 40 // struct ipt_get_entries before its entries
)

// LegacyCounters is TableCounters for iptables-legacy: its kernel side knows no
// chains: it copies the whole table, which takes a tenth of the time that
// iptables-save does.
func LegacyCounters(family xfrm.Family, table, words string) ([]RuleCounter, error) {
	if bits.UintSize != 64 {
		return nil, errors.New("read counters: the kernel's tables are laid out otherwise on this processor")
	}
	x := xtablesOf(family)
	for range attempts {
		entries, err := x.entries(table)
		switch {
		case err == nil:
			return x.read(entries, words)
		case errors.Is(err, unix.ENOENT):
			return nil, nil // the table was never used
		case !errors.Is(err, unix.EAGAIN): // it grew or shrank between the two questions
			return nil, fmt.Errorf("read counters of %s: %w", table, explain(err))
		}
	}
	return nil, fmt.Errorf("read counters of %s: %w", table, unix.EAGAIN)
}

// entries copies the rules of a table out of the kernel.
func (x xtables) entries(table string) ([]byte, error) {
	fd, err := unix.Socket(x.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	var info [infoSize]byte
	copy(info[:nameSize-1], table)
	if err := getsockopt(fd, x.level, getInfo, info[:]); err != nil {
		return nil, err
	}
	size := native.Uint32(info[infoEntries:])
	b := make([]byte, entriesAt+int(size))
	copy(b[:nameSize-1], table)
	native.PutUint32(b[nameSize:], size)
	if err := getsockopt(fd, x.level, getEntries, b); err != nil {
		return nil, err
	}
	return b[entriesAt:], nil
}

// read walks over the entries.
func (x xtables) read(b []byte, words string) ([]RuleCounter, error) {
	var found []RuleCounter
	for len(b) >= x.smallest {
		next := int(native.Uint16(b[x.nextAt:]))
		if next < x.smallest || next > len(b) {
			return nil, errors.New("read counters: the kernel's tables are laid out otherwise than expected")
		}
		packets, octets := native.Uint64(b[x.counters:]), native.Uint64(b[x.counters+8:])
		if packets|octets != 0 {
			if text, ok := commentIn(b[x.smallest:next], words); ok {
				found = append(found, RuleCounter{text, packets, octets})
			}
		}
		b = b[next:]
	}
	return found, nil
}

// getsockopt is the system call, which golang.org/x/sys/unix has for its own types
// only: option names the structure at the beginning of b, and b is filled.
func getsockopt(fd, level, option int, b []byte) error {
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&size)), 0)
	runtime.KeepAlive(b)
	if errno != 0 {
		return errno
	}
	return nil
}
