package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// bootPatience is how long a boot, or a unit, may take: the machine is emulated, and shared.
const bootPatience = 10 * time.Minute

// A machine is a Debian with a disk of its own. It is booted with a host's network as its own, and keeps its disk when
// its power is cut.
type machine struct {
	root  string // its / seen from here
	outer *exec.Cmd
	init  string // the process ID of its process 1 here
}

// The Debians that scripts/fetch makes: bare, and with strongSwan. The latter is of the release that XFRMFW_DEBIAN names.
const (
	bareDebian    = "debian"
	gatewayDebian = "gateway"
)

// debianTree returns the name of a Debian's folder in the cache, and its word for scripts/fetch.
func debianTree(kind string) (folder, fetch string) {
	release := os.Getenv("XFRMFW_DEBIAN")
	switch {
	case kind == bareDebian:
		return "bookworm", kind
	case release == "" || release == "bookworm":
		return kind, kind
	}
	return kind + "-" + release, kind + ":" + release
}

// newMachine lays an empty disk over a Debian that scripts/fetch made.
func newMachine(t *testing.T, kind string) *machine {
	t.Helper()
	lab.Require(t)
	cache := os.Getenv("XFRMFW_CACHE")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache/xfrmfw")
	}
	folder, fetch := debianTree(kind)
	tree := filepath.Join(cache, "debian", folder)
	if _, err := os.Stat(filepath.Join(tree, "usr/bin/dpkg")); err != nil {
		t.Fatalf("no Debian to boot (%v): run scripts/fetch %s", err, fetch)
	}
	disk := t.TempDir()
	mount := func(source, target, kind string, flags uintptr, data string) {
		t.Helper()
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			t.Fatalf("mount %s on %s: %v", kind, target, err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	mount("disk", disk, "tmpfs", 0, "")
	for _, dir := range []string{"data", "work"} {
		if err := os.Mkdir(filepath.Join(disk, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The modules of its modprobe@.service are its host's to load, as with any container.
	if out, err := exec.Command("modprobe", "-a", "ip_tables", "ip6_tables").CombinedOutput(); err != nil {
		t.Fatalf("modprobe: %v: %s", err, out)
	}
	m := &machine{root: filepath.Join(disk, "root")}
	mount("root", m.root, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/data,workdir=%s/work", tree, disk, disk))
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err != nil {
		mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, "")
	}
	t.Cleanup(func() {
		if t.Failed() && m.init != "" {
			t.Logf("the machine's journal:\n%s", m.Try(t, "journalctl", "--no-pager", "-b", "-n", "40").Stdout)
		}
		m.powerCut(t)
	})
	return m
}

// inside makes the machine's disk the root, and starts systemd on it as a container's manager would.
const inside = `
cd "$1"
mount --bind . .
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for device in null zero full random urandom tty; do
	touch dev/$device
	mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755 run run
pivot_root . mnt
umount -l /mnt
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/usr/lib/systemd/systemd --system --log-target=console --show-status=no --unit=multi-user.target
`

// boot boots the machine with the network of a host, and returns when all units are started.
func (m *machine) boot(t *testing.T, h *lab.Host) {
	t.Helper()
	group := fmt.Sprintf("/sys/fs/cgroup/machine-%d", time.Now().UnixNano())
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	var console bytes.Buffer
	m.outer = exec.Command("unshare", "--pid", "--mount", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child",
		"bash", "-ec", inside, "bash", m.root)
	m.outer.Stdout, m.outer.Stderr = &console, &console
	m.outer.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd()), Setsid: true}
	begin := time.Now()
	if err := h.Do(m.outer.Start); err != nil {
		t.Fatalf("boot: %v", err)
	}
	lab.Eventually(t, bootPatience, func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", m.outer.Process.Pid, m.outer.Process.Pid))
		if err != nil {
			return err
		}
		m.init = strings.TrimSpace(string(children))
		name, err := os.ReadFile("/proc/" + m.init + "/comm")
		if err != nil || string(name) != "systemd\n" {
			return fmt.Errorf("process 1 is %q, %v\n%s", name, err, console.String())
		}
		state := strings.TrimSpace(m.Try(t, "systemctl", "is-system-running").Stdout)
		if state != "running" && state != "degraded" {
			return fmt.Errorf("the machine is %q\n%s", state, console.String())
		}
		return nil
	})
	t.Logf("booted in %.0f s", time.Since(begin).Seconds())
}

// powerCut ends all that runs on the machine at once.
func (m *machine) powerCut(t *testing.T) {
	t.Helper()
	if m.init == "" {
		return
	}
	pid, err := strconv.Atoi(m.init)
	if err != nil {
		t.Fatal(err)
	}
	m.init = ""
	_ = unix.Kill(pid, unix.SIGKILL)
	_ = m.outer.Wait()
}

// A result is the output and the exit status of a program.
type result struct {
	Stdout, Stderr string
	Code           int
}

// Try runs a program on the machine.
func (m *machine) Try(t *testing.T, command string, args ...string) result {
	t.Helper()
	if m.init == "" {
		t.Fatalf("%s: the machine is off", command)
	}
	cmd := exec.Command("nsenter", append([]string{"-t", m.init, "-a", "--", command}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER="}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if exit := (*exec.ExitError)(nil); !errors.As(cmd.Run(), &exit) && cmd.ProcessState == nil {
		t.Fatalf("nsenter did not start")
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// Run is Try; the test fails if the program does.
func (m *machine) Run(t *testing.T, command string, args ...string) string {
	t.Helper()
	r := m.Try(t, command, args...)
	if r.Code != 0 {
		t.Fatalf("%s %s: exit status %d\n%s%s", command, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// show is a property of a unit.
func (m *machine) show(t *testing.T, unit, property string) string {
	t.Helper()
	return strings.TrimSpace(m.Run(t, "systemctl", "show", "--value", "-p", property, unit))
}

// write writes a file of the machine, and makes the folder for it.
func (m *machine) write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// remove removes a file of the machine.
func (m *machine) remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(m.root, path)); err != nil {
		t.Fatal(err)
	}
}

// exists tells whether a file of the machine is there.
func (m *machine) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(m.root, path))
	return err == nil
}

// rules are the machine's rules of both families and the variant in use, without counters.
func (m *machine) rules(t *testing.T) []string {
	t.Helper()
	var rules []string
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		for line := range strings.Lines(m.Run(t, program)) {
			if strings.HasPrefix(line, "-A") {
				rules = append(rules, strings.TrimSpace(program+" "+line))
			}
		}
	}
	return rules
}
