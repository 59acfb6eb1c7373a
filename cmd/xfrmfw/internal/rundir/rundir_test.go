package rundir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func opened(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// users makes a directory of another user's, which only root can.
func usersDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65533); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReplaceAndSwap(t *testing.T) {
	d := opened(t, t.TempDir())
	for name, write := range map[string]func(string, []byte) error{"replace": d.Replace, "swap": d.Swap} {
		for _, want := range []string{"one", "another", strings.Repeat("long ", 1000)} {
			if err := write(name, []byte(want)); err != nil {
				t.Fatal(err)
			}
			got, st, err := d.Read(name, 5000)
			if err != nil || string(got) != want || st.Mode&0o777 != 0o600 {
				t.Errorf("%s: read %.20q with mode %o, %v", name, got, st.Mode, err)
			}
		}
	}
	if names, err := d.Names(); err != nil || len(names) != 2 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if _, _, err := d.Read("swap", 4999); err == nil {
		t.Error("a file that is too long was read")
	}
	if _, _, err := d.Read("missing", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := d.Create("swap", nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a file: %v", err)
	}
}

// inTheWay puts everything but a file where a file is wanted. The victim is the target of
// a link.
func inTheWay(t *testing.T, dir string) (kinds []string, victim string) {
	t.Helper()
	outside := t.TempDir()
	victim = filepath.Join(outside, "victim")
	for _, err := range []error{
		os.WriteFile(victim, []byte("precious"), 0o600),
		os.Symlink(victim, filepath.Join(dir, "link")),
		os.Symlink(filepath.Join(outside, "none"), filepath.Join(dir, "dangling")),
		os.Symlink(outside, filepath.Join(dir, "linked-dir")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
		os.Mkdir(filepath.Join(dir, "dir"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	kinds = []string{"link", "dangling", "linked-dir", "fifo", "dir"}
	if os.Geteuid() == 0 && unix.Mknod(filepath.Join(dir, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) == nil {
		kinds = append(kinds, "device")
	}
	return kinds, victim
}

func TestOnlyFilesAreUsed(t *testing.T) {
	dir := t.TempDir()
	kinds, victim := inTheWay(t, dir)
	d := opened(t, dir)
	done := make(chan bool)
	go func() {
		defer close(done)
		for _, kind := range kinds {
			if _, _, err := d.Read(kind, 100); err == nil || !strings.Contains(err.Error(), "remove it") {
				t.Errorf("%s: read: %v", kind, err)
			}
			if _, err := d.TryLock(kind); err == nil || !strings.Contains(err.Error(), "remove it") {
				t.Errorf("%s: lock: %v", kind, err)
			}
			if _, _, err := d.Locked(kind); err == nil {
				t.Errorf("%s: locked: %v", kind, err)
			}
			if err := d.Create(kind, []byte("x")); err == nil {
				t.Errorf("%s: created over", kind)
			}
			if sub, err := d.Sub(kind); err == nil && kind != "dir" {
				sub.Close()
				t.Errorf("%s: taken for a directory", kind)
			}
			if sub, err := d.MakeSub(kind); err == nil && kind != "dir" {
				sub.Close()
				t.Errorf("%s: taken for a directory", kind)
			}
			if _, err := LoadRecord(filepath.Join(dir, kind)); err == nil {
				t.Errorf("%s: a record was read", kind)
			}
			// A new file takes the place of anything but a directory, and is one.
			if err := d.Swap(kind, []byte("new")); (err == nil) != (kind != "dir") {
				t.Errorf("%s: swap: %v", kind, err)
			}
			if info, err := os.Lstat(filepath.Join(dir, kind)); err != nil || !info.Mode().IsRegular() && kind != "dir" {
				t.Errorf("%s: %v after swap, %v", kind, info.Mode(), err)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("hangs")
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("the file that the link leads to is %q, %v", text, err)
	}
	if beside, err := os.ReadDir(filepath.Dir(victim)); err != nil || len(beside) != 1 {
		t.Errorf("beside it are %v, %v", beside, err)
	}
}

func TestNamesAreOneComponent(t *testing.T) {
	d := opened(t, t.TempDir())
	for _, name := range []string{"", "..", "../x", "a/b", "/etc/passwd"} {
		if err := d.Create(name, nil); err == nil {
			t.Errorf("%q: created", name)
		}
		if _, err := d.Sub(name); err == nil {
			t.Errorf("%q: opened", name)
		}
	}
}

func TestNewFilesGoToTheOwner(t *testing.T) {
	dir := usersDir(t)
	d := opened(t, dir)
	lock, err := d.TryLock("lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	sub, err := d.MakeSub("sub")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, err := range []error{d.Swap("swap", nil), d.Replace("replace", nil), d.Create("create", nil), sub.Swap("file", nil)} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"lock", "swap", "replace", "create", "sub", "sub/file"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 65534 || st.Gid != 65533 {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
}

func TestOthersFilesAreRefused(t *testing.T) {
	dir := usersDir(t)
	for _, name := range []string{"file", "sub"} {
		path := filepath.Join(dir, name)
		err := os.WriteFile(path, nil, 0o600)
		if name == "sub" {
			err = errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		}
		if err = errors.Join(err, os.Chown(path, 4711, 4711)); err != nil {
			t.Fatal(err)
		}
	}
	d := opened(t, dir)
	if _, _, err := d.Read("file", 10); err == nil {
		t.Error("a third user's file was read")
	}
	if _, err := d.Sub("sub"); err == nil {
		t.Error("a third user's directory was opened")
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a directory was opened that every user may write to")
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	d = opened(t, dir)
	if _, _, err := d.Read("file", 10); err == nil {
		t.Error("a third user's file was read in a sticky directory")
	}
}

func TestMake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	if _, err := Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	for range 2 {
		d, err := Make(path)
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestLocks(t *testing.T) {
	dir := t.TempDir()
	d := opened(t, dir)
	if _, locked, err := d.Locked("lock"); locked || err != nil {
		t.Errorf("without a file: %v, %v", locked, err)
	}
	first, err := d.TryLock("lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first.Write("longer"), first.Write("12\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.TryLock("lock"); !errors.Is(err, ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	if text, locked, err := d.Locked("lock"); text != "12\n" || !locked || err != nil {
		t.Errorf("%q, %v, %v", text, locked, err)
	}
	if !first.Stands() {
		t.Error("the lock is said to be gone")
	}
	if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	if first.Stands() {
		t.Error("the lock of a file that was removed is said to stand")
	}
	second, err := d.TryLock("lock")
	if err != nil {
		t.Fatal(err)
	}
	second.Release()
	if _, locked, err := d.Locked("lock"); locked || err != nil {
		t.Errorf("released: %v, %v", locked, err)
	}
	first.Release()
}

// TestALockThatIsRemovedIsHeldByOne removes the file while others wait for it: the
// lock of a file that has gone is nothing.
func TestALockThatIsRemovedIsHeldByOne(t *testing.T) {
	dir := t.TempDir()
	var holders, total int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			d, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			for range 200 {
				l, err := d.TryLock("lock")
				if errors.Is(err, ErrLocked) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				holders++
				total++
				if holders > 1 {
					t.Errorf("%d hold the lock", holders)
				}
				mu.Unlock()
				mu.Lock()
				holders--
				mu.Unlock()
				if err := d.Remove("lock"); err != nil {
					t.Error(err)
				}
				l.Release()
			}
		}()
	}
	all.Wait()
	if total == 0 {
		t.Error("the lock was never taken")
	}
}

func TestTidyRemovesWhatWasBegun(t *testing.T) {
	dir := t.TempDir()
	d := opened(t, dir)
	for _, name := range []string{".file-0123abcd", ".other-0123abcd", ".file-0123abcX", ".file-", ".bashrc", "file-0123abcd"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	written, err := d.TryLock(".file-00000000") // as while it is written
	if err != nil {
		t.Fatal(err)
	}
	defer written.Release()
	want := func(n int) {
		t.Helper()
		if names, err := d.Names(); err != nil || len(names) != n {
			t.Errorf("%v (%v), want %d", names, err, n)
		}
	}
	if err := d.Tidy("file"); err != nil {
		t.Fatal(err)
	}
	want(6)
	if err := d.Tidy(""); err != nil {
		t.Fatal(err)
	}
	want(5)
}
