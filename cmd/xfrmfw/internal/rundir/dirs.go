package rundir

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Dirs are the two directories that xfrmfw writes to.
type Dirs struct {
	// Run holds locks, sockets and records that do not outlive a reboot. It is shared by
	// all network namespaces.
	Run string
	// State holds what outlives a reboot.
	State string
}

// File returns the path of a file in the run directory that belongs to this network
// namespace.
func (d Dirs) File(name, suffix string) (string, error) {
	ns, err := namespace()
	if err != nil {
		return "", err
	}
	return filepath.Join(d.Run, fmt.Sprintf("%s-%d%s", name, ns, suffix)), nil
}

// Peers returns the path of the directory of the updown hook's records. Each network
// namespace has tunnels of its own, and so records of its own.
func (d Dirs) Peers() (string, error) { return d.File("peers", "") }

// namespace returns the inode that names the network namespace.
func namespace() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("find network namespace: %w: is /proc mounted?", err)
	}
	return st.Ino, nil
}
