package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	// ErrPermission means that the kernel refused to show its states: even
	// reading them needs CAP_NET_ADMIN in the user namespace that owns the
	// network namespace.
	ErrPermission = errors.New("not permitted: run as root or with CAP_NET_ADMIN; where root lacks it, a container, the sandbox of a service, SELinux or AppArmor denies it: see \"xfrmfw doctor\"")
	// ErrNoXFRM means that the kernel has no XFRM netlink interface, or has not
	// loaded it.
	ErrNoXFRM = errors.New("the kernel has no XFRM netlink interface: try modprobe xfrm_user")
)

// Errors after which another attempt with a new socket may well succeed.
var (
	errLost        = errors.New("the kernel dropped messages")
	errInterrupted = errors.New("the kernel's list changed while it was read")
)

// errTruncated means that a datagram did not fit in the buffer.
type errTruncated struct{ need int }

func (e errTruncated) Error() string {
	return fmt.Sprintf("datagram of %d bytes does not fit in the buffer", e.need)
}

// explain adds the remedy to an error of the XFRM socket where there is one.
// The errno stays in the chain.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: %w", ErrPermission, err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: %w", ErrNoXFRM, err)
	}
	return err
}
