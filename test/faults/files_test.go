package faults

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// user is the one that an unprivileged daemon runs as, and stranger any other.
const user, stranger = 65534, 1234

// hung is how long a command may take on a busy machine.
const hung = 45 * time.Second

// site is a gateway with a remembered pair that no policy stands for any more, and with
// a tunnel. Its directories belong to the user of its daemon.
type site struct {
	t   *testing.T
	who string
	dir string
	// ns is the number in the names of the run directory's files.
	ns     string
	rnd    *rand.Rand
	daemon *exec.Cmd
	// environ and options are more of the daemon's.
	environ, options []string
	ended            chan struct{}
	log              *lines
	counts
}

// counts are of the commands that ran, and of their forbidden effects.
type counts struct {
	commands, lost, touched, hung, crashed int
}

// since returns what was counted after former counts.
func (c counts) since(former counts) counts {
	return counts{c.commands - former.commands, c.lost - former.lost, c.touched - former.touched, c.hung - former.hung, c.crashed - former.crashed}
}

// daemons are the ways in which the daemon of a site runs.
var daemons = []string{"absent", "root", "unprivileged"}

func newSite(t *testing.T, who string) *site {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, who: who, dir: t.TempDir(), ns: strconv.FormatUint(st.Ino, 10), rnd: rand.New(rand.NewPCG(2, uint64(len(who)))), log: new(lines)}
	for dir := s.dir; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		s.must(os.Chmod(dir, 0o755))
	}
	s.must(os.WriteFile(s.path("xfrmfw.yaml"), []byte("daemon: {audit: 5s}\n"), 0o644))
	s.foreign()
	for _, dir := range []string{"run", "state"} {
		s.must(os.Mkdir(s.path(dir), 0o700))
		s.own(s.path(dir))
	}
	s.policies(true, 1, 2)
	s.xfrmfw("apply")
	s.policies(false, 1)
	s.xfrmfw("apply")
	if s.unguarded() {
		t.Fatal("the pair is not remembered")
	}
	t.Cleanup(func() {
		s.stop(syscall.SIGTERM)
		s.endWorkers()
		_ = exec.Command("ip", "xfrm", "policy", "flush").Run()
		_ = exec.Command(binary, s.args("clear")...).Run()
		if t.Failed() {
			t.Logf("the daemon said:\n%s", s.log)
		}
	})
	s.start()
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// own gives an entry to the daemon's user.
func (s *site) own(path string) {
	s.t.Helper()
	if s.who == "unprivileged" {
		s.must(os.Lchown(path, user, user))
	}
}

func (s *site) args(command ...string) []string {
	return append(command, "--variant", "nft", "--config", s.path("xfrmfw.yaml"), "--run-dir", s.path("run"), "--state-dir", s.path("state"))
}

// policies adds or removes those of tunnels.
func (s *site) policies(up bool, tunnels ...int) {
	s.t.Helper()
	for _, n := range tunnels {
		args := strings.Fields(fmt.Sprintf("xfrm policy delete src 10.1.0.0/24 dst 10.2.%d.0/24 dir out", n))
		if up {
			args[2] = "update"
			args = append(args, strings.Fields(fmt.Sprintf("tmpl src 192.0.2.1 dst 198.51.100.%d proto esp reqid %[1]d mode tunnel", n))...)
		}
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil && up {
			s.t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
}

// start starts the daemon, if the site has one.
func (s *site) start() {
	s.t.Helper()
	if s.who == "absent" {
		return
	}
	args := append(s.args("daemon"), s.options...)
	s.daemon = exec.Command(binary, args...)
	if s.who == "unprivileged" {
		caps := "+net_admin,+net_raw"
		s.daemon = exec.Command("setpriv", append([]string{"--reuid", strconv.Itoa(user), "--regid", strconv.Itoa(user), "--clear-groups", "--inh-caps=" + caps, "--ambient-caps=" + caps, binary}, args...)...)
	}
	s.daemon.Env = append(os.Environ(), s.environ...)
	s.daemon.Stderr = s.log
	s.must(s.daemon.Start())
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan<- struct{}) {
		defer close(ended)
		_ = cmd.Wait()
	}(s.daemon, s.ended)
}

// stop ends the daemon.
func (s *site) stop(sig syscall.Signal) {
	s.t.Helper()
	if s.daemon == nil {
		return
	}
	_ = s.daemon.Process.Signal(sig)
	select {
	case <-s.ended:
	case <-time.After(hung):
		s.hung++
		s.t.Errorf("the daemon outlives %v", sig)
		_ = s.daemon.Process.Kill()
	}
	s.daemon = nil
}

// running restarts a daemon that has ended, as systemd does.
func (s *site) running() {
	s.t.Helper()
	if s.daemon == nil {
		return
	}
	select {
	case <-s.ended:
		s.start()
	default:
	}
}

// xfrmfw runs a command, which may fail.
func (s *site) xfrmfw(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), hung)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, s.args(args...)...)
	cmd.Env = append(os.Environ(), "PLUTO_VERB=up-client", "PLUTO_CONNECTION=site", "PLUTO_REQID=2", "PLUTO_UNIQUEID=1", "PLUTO_ME=192.0.2.1",
		"PLUTO_MY_CLIENT=10.1.0.0/24", "PLUTO_PEER=198.51.100.2", "PLUTO_PEER_CLIENT=10.2.2.0/24", "PLUTO_PEER_ID=moon")
	cmd.WaitDelay = time.Second // a worker has no part in the output
	out, _ := cmd.CombinedOutput()
	s.commands++
	if ctx.Err() != nil {
		s.hung++
		s.t.Errorf("%v hangs: %s", args, out)
	}
	if text := string(out); strings.Contains(text, "goroutine ") || strings.Contains(text, "DATA RACE") {
		s.crashed++
		s.t.Errorf("%v crashes: %s", args, out)
	}
	return string(out)
}

// unguarded reports whether the rules let packets pass for a remembered pair's: that of
// tunnel 1, and those of the others that are named.
func (s *site) unguarded(others ...int) bool {
	s.t.Helper()
	out, err := exec.Command("iptables-nft-save", "-t", "mangle").Output()
	s.must(err)
	guards := spoofGuards(string(out))
	for _, n := range append(others, 1) {
		if !slices.ContainsFunc(guards, func(p netip.Prefix) bool { return p.Contains(netip.AddrFrom4([4]byte{10, 2, byte(n), 1})) }) {
			return true
		}
	}
	return false
}

// foreign makes a folder and files of others, which no command may touch.
func (s *site) foreign() {
	dir := s.path("foreign")
	s.must(os.MkdirAll(filepath.Join(dir, "folder"), 0o755))
	for _, name := range []string{"file", "folder/old", "folder/00000000000000000000000000000000.json", "folder/.kept-0123abcd"} {
		s.must(os.WriteFile(filepath.Join(dir, name), []byte("precious\n"), 0o644))
		old := time.Now().Add(-72 * time.Hour)
		s.must(os.Chtimes(filepath.Join(dir, name), old, old))
	}
}

// state describes all that can be seen of a folder.
func state(dir string) string {
	var b strings.Builder
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		_ = unix.Lstat(path, &st)
		text, _ := os.ReadFile(path)
		fmt.Fprintln(&b, path, err, st.Mode, st.Uid, st.Gid, st.Size, st.Mtim, string(text))
		return nil
	})
	return b.String()
}

// endWorkers ends the background processes that work in the site.
func (s *site) endWorkers() {
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, entry := range entries {
		text, _ := os.ReadFile(entry)
		if strings.Contains(string(text), "\x00--worker\x00") && strings.Contains(string(text), s.path("run")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(entry)))
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// report prints all counts.
func (s *site) report(what string) { s.reportSince(what, counts{}) }

// reportSince prints what was counted after former counts.
func (s *site) reportSince(what string, former counts) {
	c := s.since(former)
	s.t.Logf("files: %s, daemon %s: %d commands: %d guards lost, %d foreign files touched, %d commands hung, %d crashed", what, s.who, c.commands, c.lost, c.touched, c.hung, c.crashed)
}

// With anything in the place of a file of the run and the state directory, no command
// loses a guard, touches files that are not xfrmfw's, or hangs.
func TestFilesInTheWay(t *testing.T) {
	sites := daemons
	if rounds(t) == 1 { // the one with directories that are not root's
		sites = sites[len(sites)-1:]
	}
	for _, who := range sites {
		t.Run(who, func(t *testing.T) {
			s := newSite(t, who)
			// Each file has a line of its own, so that a campaign that is cut short has counts.
			for _, file := range s.files() {
				former := s.counts
				for kind, put := range s.kinds() {
					s.inTheWay(file, kind, put)
				}
				s.reportSince("in the place of "+strings.ReplaceAll(file, s.ns, "NS"), former)
			}
			former := s.counts
			for name, hurt := range s.hurtDirs() {
				s.hurtDir(name, hurt)
			}
			s.reportSince("with a directory hurt", former)
			s.report("in the place of a file, and a directory hurt")
		})
	}
}

// some are the commands that are run in one state: all of them from 600 rounds on, and in
// a single round one in some of the states.
func (s *site) some() [][]string {
	if rounds(s.t) == 1 && s.rnd.IntN(12) > 0 {
		return nil
	}
	commands := slices.Clone(filesCommands)
	s.rnd.Shuffle(len(commands), func(i, j int) { commands[i], commands[j] = commands[j], commands[i] })
	return commands[:min(max(1, rounds(s.t)/50), len(commands))]
}

// filesCommands are those that are run in each state. Those that end guards by intent
// are none.
var filesCommands = [][]string{
	{"apply"}, {"hook"}, {"status"}, {"check"}, {"apply", "--dry-run"}, {"apply", "--confirm", "1s"}, {"confirm"}, {"forget", "10.7.0.0/16"},
	{"doctor", "--interval", "0s"}, {"snapshot"}, {"apply", "--unattended"}, {"explain", "--in", "lo", "--src", "10.2.1.1", "--dst", "10.1.0.1"},
}

// writes reports whether a command is one that writes rules or files. The apply that
// shows what one that only reads has left is that after the next command.
func writes(command []string) bool {
	return !slices.Contains([]string{"status", "check", "doctor", "snapshot", "explain"}, command[0]) && !slices.Contains(command, "--dry-run")
}

// files are all that xfrmfw writes, by their paths in the site.
func (s *site) files() []string {
	files := []string{"state/memory.json", "state/memory.json.damaged", "state/memory-clock.json", "state/memory-clock.json.damaged", "state/configuration.json"}
	for _, name := range []string{
		"apply-%s.lock", "hook-%s.lock", "hook-standby-%s.lock", "hook-%s.pending", "hook-%s.taken", "daemon-%s.lock", "daemon-%s.reload", "daemon-%s.sock",
		"daemon-%s.sock.lock", "confirm-%s.json", "confirm-%s.lock", "reconciled-%s.json", "peers-%s", "memory-%s.json",
	} {
		files = append(files, "run/"+fmt.Sprintf(name, s.ns))
	}
	return files
}

// kinds put something in the place of a file.
func (s *site) kinds() map[string]func(path string) error {
	foreign := s.path("foreign")
	owned := func(make func(path string) error) func(path string) error {
		return func(path string) error {
			err := make(path)
			if err == nil && s.who == "unprivileged" {
				err = os.Lchown(path, user, user)
			}
			return err
		}
	}
	write := func(text string) func(string) error {
		return owned(func(path string) error { return os.WriteFile(path, []byte(text), 0o600) })
	}
	return map[string]func(path string) error{
		"link to a file":   owned(func(path string) error { return os.Symlink(filepath.Join(foreign, "file"), path) }),
		"link to a folder": owned(func(path string) error { return os.Symlink(filepath.Join(foreign, "folder"), path) }),
		"link to nothing":  owned(func(path string) error { return os.Symlink(filepath.Join(foreign, "new"), path) }),
		"link to itself":   owned(func(path string) error { return os.Symlink(path, path) }),
		"second name":      func(path string) error { return os.Link(filepath.Join(foreign, "file"), path) },
		"FIFO":             owned(func(path string) error { return unix.Mkfifo(path, 0o666) }),
		"folder": owned(func(path string) error {
			if err := os.Mkdir(path, 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(path, "old"), nil, 0o600)
		}),
		"device": owned(func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7))) }),
		"socket": owned(func(path string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(fd) }()
			return unix.Bind(fd, &unix.SockaddrUnix{Name: path}) // nobody listens
		}),
		"stranger's file": func(path string) error {
			if err := os.WriteFile(path, []byte("{}"), 0o666); err != nil {
				return err
			}
			return os.Chown(path, stranger, stranger)
		},
		"file that nobody may read": owned(func(path string) error { return os.WriteFile(path, []byte("{}"), 0) }),
		"empty file":                write(""),
		"nonsense":                  write("\x00nonsense{[" + strings.Repeat("9", 4096)),
		"huge file": owned(func(path string) error {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, 1<<40)
		}),
	}
}

// inTheWay runs commands with something in the place of a file, which is then removed.
func (s *site) inTheWay(file, kind string, put func(string) error) {
	s.t.Helper()
	commands := s.some()
	for i, command := range commands {
		s.running()
		path, kept := s.path(file), s.path("kept")
		moved := os.Rename(path, kept) == nil
		if err := put(path); err != nil {
			// The daemon was quicker.
			if moved {
				_ = os.RemoveAll(path)
				_ = os.Rename(kept, path)
			}
			continue
		}
		before := state(s.path("foreign"))
		out := s.xfrmfw(command...)
		s.judge(before, fmt.Sprintf("%s in the place of %s: %v: %s", kind, file, command, out))
		_ = os.RemoveAll(path)
		if moved && strings.HasPrefix(file, "state/") {
			s.must(os.Rename(kept, path))
		} else {
			_ = os.RemoveAll(kept)
		}
		if writes(command) || i == len(commands)-1 {
			s.mended(fmt.Sprintf("after %s in the place of %s and %v", kind, file, command))
		}
	}
}

// judge counts the forbidden effects of a command.
func (s *site) judge(before, what string) {
	s.t.Helper()
	if after := state(s.path("foreign")); after != before {
		s.touched++
		s.t.Errorf("foreign files touched: %s:\n%s", what, after)
		_ = os.RemoveAll(s.path("foreign"))
		s.foreign()
	}
	if s.unguarded() {
		s.lost++
		s.t.Errorf("guard lost: %s", what)
	}
}

// mended has the rules right again once nothing is in the way.
func (s *site) mended(what string) {
	s.t.Helper()
	s.endWorkers()
	out := ""
	for began := time.Now(); time.Since(began) < hung; time.Sleep(200 * time.Millisecond) {
		if out = s.xfrmfw("apply"); strings.HasPrefix(out, "applied:") || strings.Contains(out, "no change:") {
			break
		}
		// A change that waits is one that the former rules come back from.
		_, _ = s.xfrmfw("confirm"), os.Remove(s.path("run/confirm-"+s.ns+".json"))
	}
	if s.unguarded() {
		s.lost++
		s.t.Fatalf("guard lost for good %s: %s", what, out)
	}
}

// hurtDirs do something to a directory, and return how it is undone.
func (s *site) hurtDirs() map[string]func() (undo func(), err error) {
	hurts := make(map[string]func() (func(), error))
	for _, dir := range []string{"run", "state"} {
		path := s.path(dir)
		mounted := func(options string, flags uintptr, fill bool) func() (func(), error) {
			return func() (func(), error) {
				undo := func() { _ = unix.Unmount(path, unix.MNT_DETACH) }
				of := options
				if s.who == "unprivileged" {
					of += fmt.Sprintf(",uid=%d,gid=%[1]d", user)
				}
				if err := unix.Mount("tmpfs", path, "tmpfs", flags, of); err != nil {
					return nil, err
				}
				if fill {
					_ = os.WriteFile(filepath.Join(path, "ballast"), make([]byte, 1<<20), 0o600)
				}
				return undo, nil
			}
		}
		hurts[dir+" on a full disk"] = mounted("size=4k,mode=0700", 0, true)
		hurts[dir+" on a disk without inodes"] = mounted("nr_inodes=1,mode=0700", 0, false)
		hurts[dir+" on an empty read-only disk"] = mounted("mode=0700", unix.MS_RDONLY, false)
		hurts[dir+" read-only"] = func() (func(), error) {
			err := unix.Mount(path, path, "", unix.MS_BIND, "")
			if err == nil {
				err = unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
			}
			return func() { _ = unix.Unmount(path, unix.MNT_DETACH) }, err
		}
		hurts[dir+" that is a stranger's"] = func() (func(), error) {
			return func() { _ = os.Chown(path, 0, 0); s.own(path) }, os.Chown(path, stranger, stranger)
		}
		hurts[dir+" that all may write to"] = func() (func(), error) {
			return func() { _ = os.Chmod(path, 0o700) }, os.Chmod(path, 0o777)
		}
		hurts[dir+" that nobody may enter"] = func() (func(), error) {
			return func() { _ = os.Chmod(path, 0o700) }, os.Chmod(path, 0)
		}
		for kind, put := range s.kinds() {
			// A link in its place is the administrator's, and a second name is one of a file.
			if strings.HasPrefix(kind, "link to a") || kind == "second name" {
				continue
			}
			hurts[fmt.Sprintf("%s in the place of %s", kind, dir)] = func() (func(), error) {
				if err := os.Rename(path, s.path("kept")); err != nil {
					return nil, err
				}
				err := put(path)
				return func() { s.restore(path) }, err
			}
		}
	}
	return hurts
}

// restore puts a directory back. A daemon may make files in its place meanwhile.
func (s *site) restore(path string) {
	for began := time.Now(); time.Since(began) < hung; time.Sleep(time.Millisecond) {
		if os.RemoveAll(path) == nil && os.Rename(s.path("kept"), path) == nil {
			return
		}
	}
	s.t.Errorf("%s can't be put back", path)
}

// hurtDir runs commands while a directory is hurt.
func (s *site) hurtDir(name string, hurt func() (func(), error)) {
	s.t.Helper()
	commands := s.some()
	for i, command := range commands {
		s.running()
		undo, err := hurt()
		if err != nil {
			if undo != nil {
				undo()
			}
			if s.daemon == nil { // a daemon may have been quicker
				s.t.Errorf("%s: %v", name, err)
			}
			continue
		}
		before := state(s.path("foreign"))
		out := s.xfrmfw(command...)
		s.judge(before, fmt.Sprintf("%s: %v: %s", name, command, out))
		undo()
		if writes(command) || i == len(commands)-1 {
			s.mended(fmt.Sprintf("after %s and %v", name, command))
		}
	}
}

// A command that is killed at any moment loses no guard, and the next one is not in its
// way. Those that end guards by intent have them back with the next apply.
func TestKilledCommands(t *testing.T) {
	most := min(rounds(t), 100)
	commands := slices.Concat(filesCommands, [][]string{{"clear"}, {"forget", "10.2.9.0/24"}, {"hook", "--worker"}, {"daemon"}})
	if most == 1 { // those that write most
		commands = [][]string{{"apply"}, {"hook"}, {"daemon"}}
	}
	for _, command := range commands {
		t.Run(strings.Join(command, " "), func(t *testing.T) {
			switch {
			case command[0] == "daemon":
				kill(t, command, "root", most)
			case most == 1:
				kill(t, command, daemons[rand.IntN(len(daemons))], 1)
			case rounds(t) < 600:
				for _, who := range daemons {
					kill(t, command, who, (most+len(daemons)-1)/len(daemons))
				}
			default:
				for _, who := range daemons {
					kill(t, command, who, most)
				}
			}
		})
	}
}

// kill kills a command at a number of random moments, beside a daemon.
func kill(t *testing.T, command []string, who string, most int) {
	t.Run(who, func(t *testing.T) {
		s := newSite(t, who)
		if command[0] == "daemon" {
			s.stop(syscall.SIGTERM)
		}
		took := s.duration(command)
		for i := range most {
			s.running()
			s.policies(i%2 == 0, 3, 9)
			before := state(s.path("foreign"))
			cmd := exec.Command(binary, s.args(command...)...)
			s.must(cmd.Start())
			time.Sleep(time.Duration(s.rnd.Int64N(int64(took))))
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			s.commands++
			if command[0] != "clear" {
				s.judge(before, fmt.Sprintf("%v killed", command))
			}
			s.mended(fmt.Sprintf("after %v was killed", command))
		}
		s.report(strings.Join(command, " ") + " killed")
	})
}

// duration is how long a command takes, or until a daemon has worked.
func (s *site) duration(command []string) time.Duration {
	if command[0] == "daemon" {
		return 2 * time.Second
	}
	s.policies(true, 3, 9)
	began := time.Now()
	s.xfrmfw(command...)
	return time.Since(began) + 10*time.Millisecond
}
