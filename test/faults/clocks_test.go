package faults

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shiftFile says by how many seconds the clock of withClock's program is ahead. Its folder
// is a disk of these tests alone, and its name is one, so that the build is cached.
const shiftFile = "/run/xfrmfw-test-clock"

// shifted is added to the standard library's package time. The shift is not read at each
// look at the clock, because the runtime looks on a stack of its own, too.
const shifted = `
var shiftOfTest = readShift()

func init() {
	go func() {
		for {
			Sleep(100 * Millisecond)
			shiftOfTest = readShift()
		}
	}()
}

func readShift() int64 {
	text, _ := readFile("` + shiftFile + `")
	n, negative := int64(0), false
	for _, c := range text {
		switch {
		case c == '-':
			negative = true
		case c >= '0' && c <= '9':
			n = 10*n + int64(c-'0')
		}
	}
	if negative {
		return -n
	}
	return n
}
`

// withClock builds the program with a wall clock that can be set. The kernel has no name
// space for that clock, and a Go program asks no library for it.
func withClock(t *testing.T) (program string) {
	t.Helper()
	dir := filepath.Join(work, "clock")
	program = filepath.Join(dir, "xfrmfw")
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(out)), "src/time/time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const look = "sec, nsec, mono := runtimeNow()\n"
	patched := strings.ReplaceAll(string(text), look, look+"\tsec += shiftOfTest\n")
	if patched == string(text) {
		t.Fatal("the standard library reads its clock in another way")
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: filepath.Join(dir, "time.go")}})
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	for name, text := range map[string]string{"time.go": patched + shifted, "overlay.json": string(overlay)} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, "github.com/xfrmfw/xfrmfw/cmd/xfrmfw").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return program
}

// shifts are by how many seconds a clock is ahead in 1970, before it, shortly before 2038
// and 40 days off.
func shifts() []int64 {
	now := time.Now().Unix()
	return []int64{-now, -now - 5, 1<<31 - now - 3, 40 * 24 * 3600, -40 * 24 * 3600}
}

// setClock sets the wall clock of withClock's program, by seconds ahead.
func (s *site) setClock(seconds int64) {
	s.t.Helper()
	s.must(os.WriteFile(shiftFile, []byte(strconv.FormatInt(seconds, 10)), 0o644))
}

// A wall clock that jumps to 1970, to 2038 and 40 days ahead, and back, costs no guard,
// neither one that was remembered before nor one that is new then.
func TestClocks(t *testing.T) {
	before := binary
	binary = withClock(t)
	defer func() { binary = before }()
	shifts, sites := shifts(), daemons
	if rounds(t) == 1 {
		sites, shifts = sites[:1], shifts[2:3]
	}
	for _, who := range sites {
		t.Run(who, func(t *testing.T) {
			s := newSite(t, who)
			set := s.setClock
			defer set(0)
			known := []int{1}
			for i, seconds := range shifts {
				set(seconds)
				when := fmt.Sprintf("a clock ahead by %d s", seconds)
				s.running()
				for _, command := range filesCommands {
					before := state(s.path("foreign"))
					out := s.xfrmfw(command...)
					s.judge(before, fmt.Sprintf("%s: %v: %s", when, command, out))
				}
				s.mended("with " + when)
				// A new pair, under that clock.
				n := 4 + i
				s.policies(true, n)
				s.mended("with " + when)
				s.policies(false, n)
				known = append(known, n)
				s.mended("with " + when)
				s.stamp(time.Now().Unix() + seconds)
				check := func(what string) {
					t.Helper()
					s.mended(what)
					if s.unguarded(known...) {
						s.lost++
						t.Errorf("guard lost: %s, %s", when, what)
					}
				}
				check("at that time")
				set(0)
				check("the clock is right again")
				// As after a boot.
				s.stop(syscall.SIGTERM)
				s.endWorkers()
				s.must(os.RemoveAll(s.path("run")))
				s.must(os.Mkdir(s.path("run"), 0o700))
				s.own(s.path("run"))
				s.xfrmfw("clear")
				s.start()
				check("after a boot")
			}
			s.report("clocks at 1970, 2038 and 40 days off")
		})
	}
}

// A daemon notifies systemd's watchdog while the wall clock is set to and fro, and leaves
// out no notification: there is one in each half of the time that the watchdog allows
// (sd_watchdog_enabled(3)).
func TestClockUnderTheWatchdog(t *testing.T) {
	if rounds(t) == 1 {
		t.Skipf("left to scripts/soak: %s", t.Name()) // a minute
	}
	before := binary
	binary = withClock(t)
	defer func() { binary = before }()
	const limit = 6 * time.Second
	for _, who := range daemons[1:] {
		t.Run(who, func(t *testing.T) {
			s := newSite(t, "absent")
			s.who = who
			for _, dir := range []string{"run", "state"} {
				s.must(filepath.WalkDir(s.path(dir), func(path string, _ fs.DirEntry, err error) error {
					s.own(path)
					return err
				}))
			}
			socket := s.path("notify.sock")
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			s.must(err)
			defer conn.Close()
			s.must(os.Chmod(socket, 0o666)) // as systemd's
			s.environ = []string{"NOTIFY_SOCKET=" + socket, fmt.Sprintf("WATCHDOG_USEC=%d", limit.Microseconds())}
			s.options = []string{"--watchdog-limit", limit.String()}
			defer s.setClock(0)
			s.start()
			// notified waits for a notification that holds a text, up to a time.
			notified := func(text string, deadline time.Time) bool {
				for message := make([]byte, 4096); ; {
					s.must(conn.SetReadDeadline(deadline))
					n, err := conn.Read(message)
					if err != nil || strings.Contains(string(message[:n]), text) {
						return err == nil
					}
				}
			}
			if !notified("READY=1", time.Now().Add(hung)) {
				t.Fatal("the daemon does not get ready")
			}
			beats, last := 0, time.Now()
			for range 3 {
				for _, seconds := range append(shifts(), 0) {
					// Just before a notification is due, and so before the loop's next turn.
					time.Sleep(time.Until(last.Add(limit/3 - 300*time.Millisecond)))
					s.setClock(seconds)
					for range 3 {
						if !notified("WATCHDOG=1", last.Add(limit/2)) {
							t.Fatalf("no notification for %v with a clock ahead by %d s", limit/2, seconds)
						}
						beats, last = beats+1, time.Now()
					}
				}
			}
			s.stop(syscall.SIGTERM)
			t.Logf("files: a clock set under the watchdog, daemon %s: %d notifications, none late", who, beats)
		})
	}
}

// stamp gives all files a time.
func (s *site) stamp(seconds int64) {
	for _, dir := range []string{"run", "state"} {
		_ = filepath.WalkDir(s.path(dir), func(path string, _ fs.DirEntry, err error) error {
			_ = os.Chtimes(path, time.Unix(seconds, 0), time.Unix(seconds, 0))
			return nil
		})
	}
}
