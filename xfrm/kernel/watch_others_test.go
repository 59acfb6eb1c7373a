package kernel

import (
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

func TestWatchHost(t *testing.T) {
	netns(t)
	w, err := WatchHost()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	run(t, w)
	for _, change := range []string{
		"link add watched0 type veth peer name watched1",
		"address add 192.0.2.1/24 dev watched0",
		"link set watched0 up",
		"route add 198.51.100.0/24 dev watched0",
		"rule add fwmark 0x5 table 5",
		"-6 rule add fwmark 0x5 table 5",
		"-6 rule delete fwmark 0x5 table 5",
		"rule delete fwmark 0x5 table 5",
		"link delete watched0",
	} {
		settle(w)
		ip(t, change)
		waitDirty(t, w)
	}
}

// Every transaction is told, the hundreds of rules in it are not, and those of
// our own processes make nothing dirty.
func TestWatchTables(t *testing.T) {
	netns(t)
	if _, err := exec.LookPath("iptables-nft-restore"); err != nil {
		lab.Lacking(t, "iptables", err.Error())
	}
	var own atomic.Int64
	w, err := WatchTables(func(c Committer) bool { return int64(c.PID) == own.Load() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	t.Cleanup(func() { restore(t, "*filter\n-F WATCHED\n-X WATCHED\nCOMMIT\n", nil) })
	run(t, w)
	restore(t, "*filter\n:WATCHED - [0:0]\n"+strings.Repeat("-A WATCHED -j ACCEPT\n", 200)+"COMMIT\n", nil)
	waitDirty(t, w)
	settle(w)
	if c := w.Counts(); c.Seen > 5 || c.Lost > 0 {
		t.Errorf("%d messages seen and %d losses for a transaction or two", c.Seen, c.Lost)
	}
	before := w.Counts().Seen
	restore(t, "*filter\n-F WATCHED\nCOMMIT\n", func(pid int) { own.Store(int64(pid)) })
	waitFor(t, func() bool { return w.Counts().Seen > before })
	select {
	case <-w.Dirty():
		t.Error("dirty after a transaction of our own")
	case <-time.After(50 * time.Millisecond):
	}
	restore(t, "*filter\n-A WATCHED -j ACCEPT\nCOMMIT\n", nil)
	waitDirty(t, w)
}

// In a PID namespace of its own, as in a container, a process knows its own
// transactions from those of others too.
func TestWatchTablesInPIDNamespace(t *testing.T) {
	netns(t)
	if _, err := exec.LookPath("iptables-nft-restore"); err != nil {
		lab.Lacking(t, "iptables", err.Error())
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestWatchTables$", "-test.v", "-test.count=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), envInside+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestWatchTables ") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestCommitterOfNonsense(t *testing.T) {
	for _, body := range []string{"", "abc", "\x00\x00\x00\x00", "\x00\x00\x00\x00\x03\x00\x02\x00", "\x00\x00\x00\x00\xff\xff\x02\x00abcd", "\x00\x00\x00\x00\x08\x00\x01\x00abcd"} {
		if pid, _, ok := committer([]byte(body)); ok {
			t.Errorf("%q: process %d", body, pid)
		}
	}
}

// settle waits until nothing comes any more, also to a busy machine.
func settle(w *Watcher) {
	for seen := w.Counts().Seen; ; seen = w.Counts().Seen {
		time.Sleep(200 * time.Millisecond)
		select {
		case <-w.Dirty():
		default:
		}
		if w.Counts().Seen == seen {
			return
		}
	}
}

// restore feeds text to iptables-nft-restore; before tells the process before it
// gets the text.
func restore(t *testing.T, text string, before func(pid int)) {
	t.Helper()
	var said strings.Builder
	cmd := exec.Command("iptables-nft-restore", "--noflush")
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if before != nil {
		before(cmd.Process.Pid)
	}
	_, err = in.Write([]byte(text))
	_ = in.Close()
	if e := cmd.Wait(); e != nil || err != nil {
		t.Fatalf("restore: %v, %v: %s", err, e, said.String())
	}
}
