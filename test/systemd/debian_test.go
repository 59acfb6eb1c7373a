package systemd

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// siteNetwork brings the interfaces up where a site's network configuration does, and
// keeps the rules of that time.
const siteNetwork = `[Unit]
DefaultDependencies=no
After=network-pre.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'iptables-save >/run/rules-before-network'
ExecStart=/bin/sh -c 'ip link set lan0 up; ip link set wan0 up; ip route replace 10.1.0.0/24 via 192.0.2.1'
[Install]
WantedBy=multi-user.target
`

// siteFirewall is a rule that the site has for itself, and one that sites often have for
// tunnels.
const siteFirewall = `[Unit]
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target xfrmfw-boot.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=iptables -A FORWARD -i wan0 -s 10.1.0.0/24 -d 10.2.0.0/24 -j ACCEPT
ExecStart=iptables -t nat -A POSTROUTING -o wan0 -j MASQUERADE
[Install]
WantedBy=multi-user.target
`

// site is a network with the machine as its gateway sun: its interfaces are still down.
// Mallory sends bob packets in alice's name all the time.
type site struct {
	*lab.Network
	inbox *lab.Inbox
}

func newSite(t *testing.T) site {
	t.Helper()
	n := lab.NewNetwork(t)
	n.Sun.IP(t, "link set lan0 down", "link set wan0 down")
	inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(lab.IPv4), 7000))
	forged := lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(lab.IPv4), 7001), inbox.Addr, "forged")
	n.Mallory.Flood(t, forged, 50*time.Millisecond)
	return site{n, inbox}
}

// spoofs is how many packets the machine dropped as spoofed.
func spoofs(t *testing.T, m *machine) int {
	t.Helper()
	total := 0
	for line := range strings.Lines(m.Run(t, "iptables-save", "-c", "-t", "mangle")) {
		var packets, bytes int
		if !strings.Contains(line, "-A XFRMFW-DROP-SPOOF ") || !strings.Contains(line, "-j DROP") {
			continue
		}
		if _, err := fmt.Sscanf(line, "[%d:%d]", &packets, &bytes); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		total += packets
	}
	return total
}

// guarded waits until packets were dropped, and fails the test if one ever arrived.
func (s site) guarded(t *testing.T, m *machine, arrived int) {
	t.Helper()
	before := spoofs(t, m)
	lab.Eventually(t, bootPatience, func() error {
		if now := spoofs(t, m); now < before+3 {
			return fmt.Errorf("%d spoofed packets dropped, %d before", now, before)
		}
		return nil
	})
	if got := s.inbox.Count("forged"); got != arrived {
		t.Errorf("%d forged packets arrived, want %d", got, arrived)
	}
}

// packageFile copies the package to the machine.
func packageFile(t *testing.T, m *machine) string {
	t.Helper()
	return packageIn(t, m, os.Getenv("XFRMFW_PACKAGES"), "xfrmfw")
}

// packageIn copies the package of a folder to the machine by a name.
func packageIn(t *testing.T, m *machine, dir, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "xfrmfw_*_amd64.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%d packages in %q, want 1: run scripts/package --arch amd64 FOLDER", len(found), dir)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	path := "/root/" + name + ".deb"
	m.write(t, path, string(text))
	return path
}

// newer makes the next version of the package.
func newer(t *testing.T, m *machine, deb string) string {
	t.Helper()
	tree := filepath.Join(m.root, "root/next")
	for _, args := range [][]string{
		{"dpkg-deb", "-R", filepath.Join(m.root, deb), tree},
		{"sed", "-i", "s/^Version: .*/Version: 99/", filepath.Join(tree, "DEBIAN/control")},
		{"dpkg-deb", "-Znone", "-b", tree, filepath.Join(m.root, "root/next.deb")},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return "/root/next.deb"
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: the rules are\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func ours(rules []string) int {
	n := 0
	for _, rule := range rules {
		if strings.Contains(rule, "XFRMFW") {
			n++
		}
	}
	return n
}

// dropIn puts one of the packaged drop-ins in force for both units, and starts the boot unit anew.
func dropIn(t *testing.T, m *machine, name string) {
	t.Helper()
	for _, unit := range []string{"xfrmfw.service", "xfrmfw-boot.service"} {
		m.Run(t, "install", "-D", "-m", "644", "/usr/share/xfrmfw/"+name, "/etc/systemd/system/"+unit+".d/"+name)
	}
	m.Run(t, "systemctl", "daemon-reload")
}

func dropOut(t *testing.T, m *machine) {
	t.Helper()
	m.remove(t, "/etc/systemd/system/xfrmfw.service.d")
	m.remove(t, "/etc/systemd/system/xfrmfw-boot.service.d")
	m.Run(t, "systemctl", "daemon-reload")
}

func variant(t *testing.T, m *machine, name string) {
	t.Helper()
	for _, program := range []string{"iptables", "ip6tables"} {
		m.Run(t, "update-alternatives", "--set", program, "/usr/sbin/"+program+"-"+name)
	}
}

// TestDebian is the life of the package on one machine, from a bare Debian to its purge, with a reboot in between. The
// steps build on each other.
func TestDebian(t *testing.T) {
	m := newMachine(t, bareDebian)
	m.write(t, "/etc/systemd/system/site-network.service", siteNetwork)
	m.write(t, "/etc/systemd/system/site-firewall.service", siteFirewall)
	for _, unit := range []string{"site-network", "site-firewall"} {
		if out, err := exec.Command("chroot", m.root, "systemctl", "enable", unit).CombinedOutput(); err != nil {
			t.Fatalf("enable %s: %v\n%s", unit, err, out)
		}
	}
	deb := packageFile(t, m)
	step := func(name string, f func(*testing.T)) {
		if !t.Run(name, f) {
			t.FailNow()
		}
	}

	s := newSite(t)
	var bare, inForce []string
	step("without the package forged packets arrive", func(t *testing.T) {
		m.boot(t, s.Sun)
		lab.Eventually(t, bootPatience, func() error {
			if s.inbox.Count("forged") == 0 {
				return fmt.Errorf("no forged packet arrived")
			}
			return nil
		})
		bare = m.rules(t)
		if len(bare) < 2 {
			t.Errorf("the site's own rules are %v", bare)
		}
	})
	step("install changes no rule", func(t *testing.T) {
		m.Run(t, "dpkg", "-i", deb)
		same(t, "after the install", m.rules(t), bare)
		for _, unit := range []string{"xfrmfw.service", "xfrmfw-boot.service"} {
			if r := m.Try(t, "systemctl", "is-enabled", unit); strings.TrimSpace(r.Stdout) != "disabled" {
				t.Errorf("%s is %s%s, want disabled", unit, r.Stdout, r.Stderr)
			}
			if r := m.Try(t, "systemctl", "is-active", unit); strings.TrimSpace(r.Stdout) != "inactive" {
				t.Errorf("%s is %s%s, want inactive", unit, r.Stdout, r.Stderr)
			}
		}
		if out := m.Run(t, "xfrmfw", "version"); !strings.Contains(out, "\ncommit ") || !strings.Contains(out, "CGO_ENABLED=0") {
			t.Errorf("xfrmfw version says\n%s", out)
		}
		if out := m.Run(t, "dpkg", "--verify", "xfrmfw"); out != "" {
			t.Errorf("dpkg --verify: %s", out)
		}
		// dpkg has the manual's reader on no minimal machine, which systemd-analyze would call.
		out := m.Try(t, "systemd-analyze", "verify", "--man=no", "xfrmfw.service", "xfrmfw-boot.service")
		if out.Code != 0 || out.Stderr != "" {
			t.Errorf("systemd-analyze verify: exit status %d\n%s%s", out.Code, out.Stdout, out.Stderr)
		}
	})
	step("the units in their sandbox", func(t *testing.T) {
		s.Up(t, lab.IPsec{})
		m.Run(t, "systemctl", "enable", "--now", "xfrmfw.service")
		for _, unit := range []string{"xfrmfw.service", "xfrmfw-boot.service"} {
			if enabled, active := m.show(t, unit, "UnitFileState"), m.show(t, unit, "ActiveState"); enabled != "enabled" || active != "active" {
				t.Errorf("%s is %s and %s", unit, enabled, active)
			}
			if caps := m.show(t, unit, "CapabilityBoundingSet"); caps != "cap_net_admin" {
				t.Errorf("%s may have the capabilities %s", unit, caps)
			}
			if r := m.Try(t, "systemd-analyze", "security", "--threshold=20", "--no-pager", unit); r.Code != 0 {
				t.Errorf("the sandbox of %s is wider than it was:\n%s", unit, r.Stdout)
			}
		}
		m.Run(t, "xfrmfw", "check")
		s.Alice.MustPing(t, s.Bob.Inner(lab.IPv4), 2)
		s.Down(t, lab.IPsec{})
		s.guarded(t, m, s.inbox.Count("forged"))
		if !m.exists("/var/lib/xfrmfw/memory.json") {
			t.Error("the daemon could not write the memory")
		}
	})
	step("the watchdog restarts a daemon that hangs", func(t *testing.T) {
		m.write(t, "/etc/systemd/system/xfrmfw.service.d/short.conf", "[Service]\nWatchdogSec=10s\n")
		m.Run(t, "systemctl", "daemon-reload")
		m.Run(t, "systemctl", "restart", "xfrmfw.service")
		settled, arrived := m.rules(t), s.inbox.Count("forged")
		hung := m.show(t, "xfrmfw.service", "MainPID")
		m.Run(t, "kill", "-STOP", hung)
		lab.Eventually(t, bootPatience, func() error {
			now, state := m.show(t, "xfrmfw.service", "MainPID"), m.show(t, "xfrmfw.service", "ActiveState")
			if now == hung || now == "0" || state != "active" {
				return fmt.Errorf("process %s, %s; %s hung", now, state, hung)
			}
			return nil
		})
		// The log of systemd itself goes to the console. Nobody else sends this signal.
		restarts, log := m.show(t, "xfrmfw.service", "NRestarts"), m.Run(t, "journalctl", "--no-pager", "-b", "_PID="+hung)
		if restarts != "1" || !strings.Contains(log, "SIGABRT") {
			t.Errorf("%s restarts; it was no watchdog that ended it: %.1000s", restarts, log)
		}
		same(t, "after the restart", m.rules(t), settled)
		s.guarded(t, m, arrived)
		dropOut(t, m)
	})
	step("the units with iptables-legacy", func(t *testing.T) {
		lab.RunIn(t, lab.Soak)
		m.Run(t, "systemctl", "stop", "xfrmfw.service")
		m.Run(t, "xfrmfw", "clear")
		variant(t, m, "legacy")
		dropIn(t, m, "legacy.conf")
		m.Run(t, "systemctl", "restart", "xfrmfw-boot.service", "xfrmfw.service")
		m.Run(t, "xfrmfw", "check")
		if got := ours(m.rules(t)); got < 50 {
			t.Errorf("%d rules of ours in iptables-legacy", got)
		}
		m.Run(t, "systemctl", "stop", "xfrmfw.service")
		m.Run(t, "xfrmfw", "clear")
		dropOut(t, m)
		variant(t, m, "nft")
	})
	step("the units as a user of their own", func(t *testing.T) {
		if out := m.Run(t, "stat", "-c", "%U %G %a", "/run/xfrmfw-metrics"); out != "root xfrmfw-metrics 2750\n" {
			t.Errorf("the folder of the metrics is %q", out)
		}
		dropIn(t, m, "unprivileged.conf")
		m.Run(t, "systemctl", "restart", "xfrmfw-boot.service", "xfrmfw.service")
		pid := m.show(t, "xfrmfw.service", "MainPID")
		if user := strings.TrimSpace(m.Run(t, "ps", "-o", "user=", "-p", pid)); user != "xfrmfw" {
			t.Errorf("the daemon runs as %s", user)
		}
		// The files of root's own apply and hook must not shut the user out.
		m.Run(t, "find", "/run/xfrmfw", "/var/lib/xfrmfw", "-type", "f", "-delete")
		s.Up(t, lab.IPsec{})
		m.Run(t, "xfrmfw", "apply")
		m.Run(t, "env", "PLUTO_VERB=up-client", "PLUTO_REQID=11", "PLUTO_CONNECTION=office", "PLUTO_PEER=192.0.2.1",
			"PLUTO_PEER_ID=moon", "PLUTO_PEER_CLIENT=10.1.0.0/24", "PLUTO_MY_CLIENT=10.2.0.0/24", "PLUTO_ME=192.0.2.2",
			"PLUTO_MY_PORT=0", "PLUTO_PEER_PORT=0", "PLUTO_UNIQUEID=1",
			"/usr/libexec/xfrmfw/updown")
		if m.Run(t, "find", "/run/xfrmfw", "-mindepth", "2", "-type", "f") == "" {
			t.Error("the hook left no record of the peer")
		}
		if out := m.Run(t, "find", "/run/xfrmfw", "/var/lib/xfrmfw", "!", "-user", "xfrmfw"); out != "" {
			t.Errorf("not the user's:\n%s", out)
		}
		if out := m.Run(t, "find", "/run/xfrmfw", "/var/lib/xfrmfw", "-perm", "/077"); out != "" {
			t.Errorf("others may:\n%s", out)
		}
		s.Alice.MustPing(t, s.Bob.Inner(lab.IPv4), 2)
		s.Down(t, lab.IPsec{})
		lab.Eventually(t, bootPatience, func() error {
			if r := m.Try(t, "xfrmfw", "check"); r.Code != 0 {
				return fmt.Errorf("the daemon does not follow: %s", r.Stdout)
			}
			return nil
		})
		s.guarded(t, m, s.inbox.Count("forged"))
		log := m.Run(t, "journalctl", "--no-pager", "-b", "_PID="+pid)
		if strings.Contains(log, "denied") || strings.Contains(log, "not permitted") {
			t.Errorf("the daemon says\n%s", log)
		}
		dropOut(t, m)
		m.Run(t, "systemctl", "restart", "xfrmfw.service")
		inForce = m.rules(t)
	})
	step("an upgrade leaves the rules in force, and the configuration as it is", func(t *testing.T) {
		const own = "# ours\nverified: accept\n"
		m.write(t, "/etc/xfrmfw/xfrmfw.yaml", own)
		arrived, old := s.inbox.Count("forged"), m.show(t, "xfrmfw.service", "MainPID")
		m.Run(t, "dpkg", "-i", newer(t, m, deb))
		if now := m.show(t, "xfrmfw.service", "MainPID"); now == old || now == "0" {
			t.Errorf("the daemon's process is %s, before the upgrade %s", now, old)
		}
		if out := m.Run(t, "dpkg-query", "-W", "xfrmfw"); !strings.HasSuffix(out, "\t99\n") {
			t.Errorf("installed is %q", out)
		}
		same(t, "after the upgrade", m.rules(t), inForce)
		s.guarded(t, m, arrived)
		if text := m.Run(t, "cat", "/etc/xfrmfw/xfrmfw.yaml"); text != own {
			t.Errorf("the configuration is now\n%s", text)
		}
	})

	m.powerCut(t)
	s = newSite(t) // a new network has no rules, no states and no policies, as after a reboot
	step("after a reboot the guards stand before an interface is up", func(t *testing.T) {
		m.boot(t, s.Sun)
		before := m.Run(t, "cat", "/run/rules-before-network")
		if !strings.Contains(before, "XFRMFW") || !strings.Contains(before, "10.1.0.0/24") {
			t.Errorf("the rules before the network were\n%s", before)
		}
		s.guarded(t, m, 0)
		lab.Eventually(t, bootPatience, func() error {
			if r := m.Try(t, "xfrmfw", "check"); r.Code != 0 {
				return fmt.Errorf("the daemon has not seen the interfaces yet: %s", r.Stdout)
			}
			return nil
		})
	})
	step("when the package goes, its rules go with it", func(t *testing.T) {
		m.write(t, "/etc/xfrmfw/xfrmfw.yaml", "this is no configuration")
		m.Run(t, "dpkg", "--remove", "xfrmfw")
		same(t, "after the removal", m.rules(t), bare)
		if r := m.Try(t, "pgrep", "-x", "xfrmfw"); r.Code == 0 {
			t.Errorf("the daemon still runs: %s", r.Stdout)
		}
		if !m.exists("/etc/xfrmfw/xfrmfw.yaml") || !m.exists("/var/lib/xfrmfw/memory.json") {
			t.Error("a removal that is no purge took the configuration or the memory")
		}
	})
	step("purge leaves nothing", func(t *testing.T) {
		m.Run(t, "dpkg", "--purge", "xfrmfw")
		for _, path := range []string{"/etc/xfrmfw", "/var/lib/xfrmfw", "/run/xfrmfw", "/usr/share/xfrmfw", "/usr/sbin/xfrmfw"} {
			if m.Try(t, "ls", "-d", path).Code == 0 {
				t.Errorf("%s is still there", path)
			}
		}
		if out := m.Run(t, "find", "/etc", "/usr", "/var", "-name", "*xfrmfw*", "-not", "-path", "/var/log/*"); out != "" {
			t.Errorf("left behind:\n%s", out)
		}
		same(t, "after the purge", m.rules(t), bare)
	})
}
