package nudge

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary a sender too, for a process of another user.
func TestMain(m *testing.M) {
	if path := os.Getenv("NUDGE_TEST_SEND"); path != "" {
		if err := sendPatiently(path); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func listen(t *testing.T) (*Listener, string) {
	t.Helper()
	path := socket(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

// socket names one in a folder with a short name: a socket's may have 107 bytes.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nudge")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "daemon-1.sock")
}

func nudged(t *testing.T, l *Listener, want bool) {
	t.Helper()
	wait := time.Minute
	if !want {
		wait = 20 * time.Millisecond
	}
	select {
	case <-l.C():
		if !want {
			t.Error("a nudge came that nobody sent")
		}
	case <-time.After(wait):
		if want {
			t.Error("no nudge came")
		}
	}
}

// sendPatiently is Send to a daemon of ours, which a busy machine may keep from answering in
// time now and then.
func sendPatiently(path string) error {
	err := Send(path)
	for tries := 1; errors.Is(err, ErrSilent) && tries < 20; tries++ {
		err = Send(path)
	}
	return err
}

func mustSend(t *testing.T, path string) {
	t.Helper()
	if err := sendPatiently(path); err != nil {
		t.Error(err)
	}
}

func TestManyNudgesAreOne(t *testing.T) {
	l, path := listen(t)
	var senders sync.WaitGroup
	errs := make(chan error, 200)
	for range cap(errs) {
		senders.Add(1)
		go func() {
			defer senders.Done()
			errs <- Send(path)
		}()
	}
	senders.Wait()
	close(errs)
	for err := range errs {
		// A slow machine may keep some waiting for too long; they are told so.
		if err != nil && !errors.Is(err, ErrSilent) {
			t.Error(err)
		}
	}
	mustSend(t, path) // the last one: those that were not answered in time are taken before
	nudged(t, l, true)
	nudged(t, l, false)
	mustSend(t, path)
	nudged(t, l, true)
}

func TestClientsHoldNothingUp(t *testing.T) {
	l, path := listen(t)
	for range 300 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			continue // the queue is full for a moment
		}
		defer conn.Close()
	}
	talker, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = talker.SetWriteDeadline(time.Now().Add(time.Minute))
	var said int64
	for err == nil && said < 64<<20 {
		var n int
		n, err = talker.Write(make([]byte, 1<<16))
		said += int64(n)
	}
	if err == nil || os.IsTimeout(err) {
		t.Errorf("a client could write %d bytes and was not cut off: %v", said, err)
	}
	for range 3 {
		mustSend(t, path)
		nudged(t, l, true)
	}
	if open, err := os.ReadDir("/proc/self/fd"); err != nil || len(open) > 400 {
		t.Errorf("%d descriptors are open (%v)", len(open), err)
	}
}

func TestOneDaemonAtATime(t *testing.T) {
	l, path := listen(t)
	if _, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Errorf("a second daemon: %v, want ErrInUse", err)
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Errorf("a second daemon without the lock file: %v, want ErrInUse", err)
	}
	nudged(t, l, true) // it was asked whether it lives
	mustSend(t, path)
	nudged(t, l, true)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if err := Send(path); !errors.Is(err, ErrNobody) {
		t.Errorf("send to nobody: %v, want ErrNobody", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := socket(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Send(path); !errors.Is(err, ErrNobody) {
		t.Errorf("send to a dead daemon: %v, want ErrNobody", err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	mustSend(t, path)
	nudged(t, l, true)
}

func TestNoFileIsRemoved(t *testing.T) {
	path := socket(t)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a file was replaced")
	}
	if got, err := os.ReadFile(path); string(got) != "mine" {
		t.Errorf("the file is %q (%v)", got, err)
	}
}

func TestHungDaemon(t *testing.T) {
	path := socket(t)
	hung, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	begin := time.Now()
	if err := Send(path); !errors.Is(err, ErrSilent) {
		t.Errorf("send to a hung daemon: %v, want ErrSilent", err)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}

func TestOthersAreRefused(t *testing.T) {
	for user, want := range map[uint32]bool{0: true, 7: true, 8: false, 65534: false} {
		if got := allowed(user, 7); got != want {
			t.Errorf("user %d at a daemon of user 7: %v, want %v", user, got, want)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("no root: can't be another user")
	}
	l, path := listen(t)
	// Let it get as far as the credentials: the modes alone would stop it.
	for name, mode := range map[string]os.FileMode{filepath.Dir(path): 0o755, path: 0o666} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	// The test binary may lie where others have no access: it is read through
	// an open descriptor.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	stranger := exec.Command("/proc/self/fd/3")
	stranger.ExtraFiles = []*os.File{self}
	stranger.Env = []string{"NUDGE_TEST_SEND=" + path}
	stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := stranger.CombinedOutput()
	if err == nil || !strings.Contains(string(out), ErrRefused.Error()) {
		t.Errorf("a stranger's nudge: %v, %q", err, out)
	}
	if l.Refused() == 0 {
		t.Error("none is counted as refused")
	}
	nudged(t, l, false)
}

// TestNoLinkIsFollowed: where the socket's directory is another user's, a link there
// leads neither a daemon nor a hook to files that are not theirs.
func TestNoLinkIsFollowed(t *testing.T) {
	_, theirs := listen(t)
	path := socket(t)
	if err := os.Symlink(theirs, path); err != nil {
		t.Fatal(err)
	}
	if err := Send(path); err == nil || errors.Is(err, ErrNobody) {
		t.Errorf("a nudge through a link: %v", err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a link was replaced by a socket")
	}
	for _, name := range []string{path + ".lock", path + ".new"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		_ = os.Remove(path + ".lock")
		victim := filepath.Join(t.TempDir(), "victim")
		if err := os.WriteFile(victim, []byte("precious"), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, name); err != nil {
			t.Fatal(err)
		}
		if l, err := Listen(path); err == nil {
			_ = l.Close()
		}
		info, err := os.Stat(victim)
		if err != nil || info.Mode() != 0o640 || info.Size() != 8 {
			t.Errorf("%s: the file that a link led to is %v", name, info)
		}
	}
}

// TestAnEmptiedDirectoryIsSeen: a listener knows when no nudge reaches it any more, and
// leaves alone the files that came in its place.
func TestAnEmptiedDirectoryIsSeen(t *testing.T) {
	for _, gone := range []string{"", ".lock"} {
		first, path := listen(t)
		if !first.Stands() {
			t.Fatal("a listener is said to be gone")
		}
		if err := os.Remove(path + gone); err != nil {
			t.Fatal(err)
		}
		if first.Stands() {
			t.Errorf("without %q the listener is said to be reached", gone)
		}
	}
	first, path := listen(t)
	for _, name := range []string{path, path + ".lock"} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	second, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if mustSend(t, path); !second.Stands() {
		t.Error("the second listener is not reached")
	}
}
