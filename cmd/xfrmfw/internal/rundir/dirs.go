package rundir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dirs are the two directories that xfrmfw writes to.
type Dirs struct {
	// Run holds locks, sockets and records that do not outlive a reboot. It is shared by
	// all network namespaces, so the names of its files end in the namespace.
	Run string
	// State holds the files that outlive a reboot.
	State string
}

// LockWait is how long a command waits for another one to end.
const LockWait = 60 * time.Second

// File returns the path of a file in the run directory that belongs to this network
// namespace.
func (d Dirs) File(name, suffix string) (string, error) {
	file, err := fileName(name, suffix)
	return filepath.Join(d.Run, file), err
}

// fileName returns the last component of File.
func fileName(name, suffix string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return "", fmt.Errorf("find network namespace: %w: is /proc mounted?", err)
	}
	return fmt.Sprintf("%s-%d%s", name, st.Ino, suffix), nil
}

// Peers returns the path of the directory of the updown hook's records. Each network
// namespace has tunnels of its own, and so records of its own.
func (d Dirs) Peers() (string, error) { return d.File("peers", "") }

// Socket returns the path of the socket by which the daemon is nudged.
func (d Dirs) Socket() (string, error) { return d.File("daemon", ".sock") }

// Lock takes a lock of this network namespace, and waits for it up to LockWait. The
// returned function releases it.
func (d Dirs) Lock(ctx context.Context, name string) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, LockWait)
	defer cancel()
	for {
		lock, err := d.TryLock(name)
		if err == nil {
			return lock.Release, nil
		}
		if !errors.Is(err, ErrLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			file, _ := d.File(name, ".lock")
			return nil, fmt.Errorf("lock %s: another xfrmfw holds it (see fuser -v %s); nothing was changed", file, file)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TryLock takes a lock of this network namespace. The error is ErrLocked while another
// process holds it.
func (d Dirs) TryLock(name string) (*Lock, error) {
	dir, file, err := d.make(name, ".lock")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	lock, err := dir.TryLock(file)
	if err != nil && !errors.Is(err, ErrLocked) {
		return nil, fmt.Errorf("open lock: %w: %s", err, Remedy("--run-dir"))
	}
	return lock, err
}

// LockDaemon makes this process the daemon of the network namespace until the lock is
// released. The lock file names the process.
func (d Dirs) LockDaemon(ctx context.Context) (*Lock, error) {
	var lock *Lock
	var err error
	// A command that asks whether a daemon runs holds the lock for a moment.
	for range 50 {
		if lock, err = d.TryLock("daemon"); !errors.Is(err, ErrLocked) || ctx.Err() != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		if pid, _ := d.DaemonPID(); pid != 0 {
			return nil, fmt.Errorf("a daemon runs already in this network namespace, as process %d: stop it first, e.g. systemctl stop xfrmfw", pid)
		}
		return nil, err
	}
	if err := lock.Write(strconv.Itoa(os.Getpid()) + "\n"); err != nil {
		lock.Release()
		return nil, err
	}
	return lock, nil
}

// DaemonPID returns the process that is the daemon of this network namespace, 0 if none
// runs. The process holds its lock, so the number can't be stale; but it is the daemon's
// own, and means another process in another PID namespace.
func (d Dirs) DaemonPID() (int, error) {
	dir, file, err := d.open("daemon", ".lock")
	if err != nil {
		return 0, nil
	}
	defer dir.Close()
	text, locked, err := dir.Locked(file)
	if err != nil || !locked {
		return 0, nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || pid < 1 {
		return 0, fmt.Errorf("read %s: no process is named in it", dir.Path(file))
	}
	return pid, nil
}

// Leave makes an empty file in the run directory: a request that Take takes. A request
// that is there already stands for both.
func (d Dirs) Leave(name, suffix string) error {
	dir, file, err := d.make(name, suffix)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Create(file, nil); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Locked reports whether another process holds a lock.
func (d Dirs) Locked(name string) bool {
	dir, file, err := d.open(name, ".lock")
	if err != nil {
		return false
	}
	defer dir.Close()
	_, locked, _ := dir.Locked(file)
	return locked
}

// Take removes a file of the run directory; the error is fs.ErrNotExist if there is none.
func (d Dirs) Take(name, suffix string) error {
	dir, file, err := d.open(name, suffix)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Remove(file)
}

// Has reports whether there is a file in the run directory.
func (d Dirs) Has(name, suffix string) bool {
	dir, file, err := d.open(name, suffix)
	if err != nil {
		return false
	}
	defer dir.Close()
	return dir.Exists(file)
}

// Create writes a file of the run directory that must not exist yet.
func (d Dirs) Create(name, suffix string, text []byte) error {
	dir, file, err := d.make(name, suffix)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Create(file, text)
}

// Read reads a file of the run directory of at most limit bytes; the error is
// fs.ErrNotExist if there is none.
func (d Dirs) Read(name, suffix string, limit int) ([]byte, error) {
	dir, file, err := d.open(name, suffix)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	text, _, err := dir.Read(file, limit)
	return text, err
}

// Note records how a reconcile by a command ended, for status. A record that can't be
// written does not make a good reconcile a failure.
func (d Dirs) Note(by string, failure error) {
	path, err := d.File("reconciled", ".json")
	if err != nil {
		return
	}
	if failure != nil {
		_ = Failed(path, by, time.Now().Unix(), failure)
		return
	}
	_ = Done(path, by, time.Now().Unix())
}

// Record returns how the last reconciles ended.
func (d Dirs) Record() (Record, error) {
	path, err := d.File("reconciled", ".json")
	if err != nil {
		return Record{}, nil
	}
	return LoadRecord(path)
}

// open opens the run directory, for a file in it.
func (d Dirs) open(name, suffix string) (*Dir, string, error) {
	file, err := fileName(name, suffix)
	if err != nil {
		return nil, "", err
	}
	dir, err := Open(d.Run)
	return dir, file, err
}

// make opens the run directory, which is made if it is missing, for a file in it.
func (d Dirs) make(name, suffix string) (*Dir, string, error) {
	file, err := fileName(name, suffix)
	if err != nil {
		return nil, "", err
	}
	dir, err := Make(d.Run)
	if err != nil {
		return nil, "", fmt.Errorf("make run directory: %w: %s", err, Remedy("--run-dir"))
	}
	return dir, file, nil
}

// Remedy returns the remedy for a directory that can't be used, which the flag names.
func Remedy(flag string) string {
	remedy := "name another directory with " + flag
	if os.Geteuid() != 0 {
		remedy = "run as root, or " + remedy
	}
	return remedy
}
