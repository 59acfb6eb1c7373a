package nftables

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	// ErrStale means that tables of the network namespace changed after the table
	// was read, so that the kernel refused the change whole. The caller reads the
	// table again and tries again.
	ErrStale = errors.New("the kernel's tables changed since they were read: read them again")
	// ErrPermission means that the process may not read or change tables.
	ErrPermission = errors.New("not permitted: run as root or with CAP_NET_ADMIN; where root lacks it, a container, the sandbox of a service, SELinux or AppArmor denies it: see \"xfrmfw doctor\"")
	// ErrOwned means that the table belongs to the socket of another process.
	ErrOwned = errors.New("the table belongs to another process, such as a running xfrmfw daemon")
	// ErrNoTables means that the kernel has no nf_tables.
	ErrNoTables = errors.New("the kernel has no nf_tables: load the module nf_tables, or set CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET")
)

// errChanged means that a dump is of several generations.
var errChanged = errors.New("the kernel's tables changed while they were read")

// OpError is an error of the kernel about one operation of a change. Nothing of
// the transaction that held it has come into force.
type OpError struct {
	// Op is the operation in words.
	Op string
	// Message is the kernel's own, if it has one.
	Message string
	Err     error
}

// Error names the operation, and the kernel's message if there is one.
func (e *OpError) Error() string {
	if e.Message != "" {
		return fmt.Sprintf("%s: %v: %s", e.Op, e.Err, e.Message)
	}
	return fmt.Sprintf("%s: %v", e.Op, e.Err)
}

// Unwrap returns the kernel's error.
func (e *OpError) Unwrap() error { return e.Err }

// explainSocket adds the meaning to an error of a netfilter socket.
func explainSocket(err error) error {
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%w: %w", ErrNoTables, err)
	}
	return explain(err)
}

// explain adds the meaning to an error of a request.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: %w", ErrPermission, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		// nfnetlink knows no subsystem of the number.
		return fmt.Errorf("%w: %w", ErrNoTables, err)
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("no answer of the kernel within %d s: %w", waitSeconds, err)
	}
	return err
}
