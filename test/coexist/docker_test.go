package coexist

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// containers is the network of the container, which the tunnel serves beside sun's own, and container its address.
var (
	containers = netip.MustParsePrefix("172.30.0.0/24")
	container  = netip.MustParseAddrPort("172.30.0.10:7100")
)

// dockerd starts docker's daemons on a host where nothing else has prepared cgroups. Their mounts are their own. containerd
// comes first, because dockerd gives one that it starts itself 15 s, and an emulated one takes longer. It ends with dockerd.
const dockerd = `mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /var/lib/docker
mount -t tmpfs docker /var/lib/docker
setpriv --pdeathsig KILL containerd --address /run/containerd.sock --root /var/lib/docker/containerd --state /run/containerd >/run/containerd.log 2>&1 &
until ctr --address /run/containerd.sock version; do sleep 1; done
exec dockerd --containerd /run/containerd.sock --iptables=true --storage-driver vfs --exec-root /run/docker --pidfile /run/docker.pid --host unix:///run/docker.sock`

// startDocker starts docker's daemon on sun and waits until it answers.
func (s *site) startDocker(t *testing.T) *lab.Process {
	t.Helper()
	daemon := s.Sun.Start(t, nil, "sh", "-ec", dockerd)
	lab.Eventually(t, 10*lab.Patience, func() error {
		if !daemon.Running() {
			t.Fatalf("dockerd ended: %s", daemon.Output())
		}
		if r := s.try(t, "docker version"); r.Code != 0 {
			return fmt.Errorf("docker version: %s%s\n%s", r.Stdout, r.Stderr, daemon.Output())
		}
		return nil
	})
	return daemon
}

// TestDockerDaemon: docker's own daemon makes a network that the tunnel serves. Its container is reached through the tunnel
// and reaches the other side with its own address, although docker closes FORWARD and masquerades. Without our table doctor
// finds the MASQUERADE, and with the tunnel down the container's packets stay.
func TestDockerDaemon(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	need(t, "/usr/sbin/dockerd")
	need(t, "/usr/bin/busybox")
	s := siteWith(t, lab.IPsec{SunNets: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24"), containers}})
	for _, h := range []*lab.Host{s.Moon, s.Mallory} {
		h.IP(t, fmt.Sprintf("route replace %s via %s", containers, s.Sun.Outer(lab.IPv4)))
	}
	s.Sun.MustXfrmfw(t, "apply")
	s.Sun.Sysctl(t, "net/ipv4/ip_forward=0") // docker closes FORWARD where it turns that on
	s.startDocker(t)
	t.Logf("versions: docker %s", strings.TrimSpace(s.sh(t, "docker version --format '{{.Server.Version}}'")))
	s.sh(t, "mkdir -p /run/image/bin", "cp /usr/bin/busybox /run/image/bin/busybox", "tar -C /run/image -c . | docker import - busybox",
		fmt.Sprintf("docker network create --subnet %s site", containers),
		fmt.Sprintf("docker run --detach --name echo --network site --ip %s busybox /bin/busybox nc -ll -p %d -e /bin/busybox cat", container.Addr(), container.Port()))
	saved := s.sh(t, "iptables-save")
	masquerade := regexp.MustCompile(fmt.Sprintf(`(?m)^-A (POSTROUTING -s %s ! -o br-\S+ -j MASQUERADE)$`, regexp.QuoteMeta(containers.String()))).FindStringSubmatch(saved)
	if masquerade == nil || !strings.Contains(saved, ":FORWARD DROP") {
		t.Fatalf("docker has not closed FORWARD, or does not masquerade:\n%s", saved)
	}
	// An interface and a network that came after the apply.
	s.Sun.MustXfrmfw(t, "apply")
	in := []way{{s.Alice, container}}
	s.flows(t, "docker's daemon", append(s.ways(), in...)...)
	s.fromContainer(t, "docker's daemon")
	s.finds(t, "docker's daemon")

	// The order where docker makes the network after the last apply.
	s.sh(t, "iptables -t nat -D "+masquerade[1], "iptables -t nat -I "+masquerade[1])
	s.fromContainer(t, "its MASQUERADE comes first")
	s.finds(t, "its MASQUERADE comes first")
	s.sh(t, "nft delete table inet xfrmfw")
	if got := s.ask(t); got == asked {
		t.Error("without our table: docker's MASQUERADE cuts nothing, so that nothing is there to mend")
	}
	s.done.cuts++
	s.follow(t, s.finds(t, "without our table", "ahead", "rules")[:1])
	s.fromContainer(t, "with doctor's line")

	// The tunnel goes down: neither forged packets reach the container, nor do its own leave.
	s.Down(t, s.tunnel)
	before, wire := s.drops(t), s.Wire(t)
	forged := lab.UDPPacket(netip.AddrPortFrom(s.Alice.Inner(lab.IPv4), 7001), container, "forged")
	s.Mallory.SendRaw(t, forged.Times(3)...)
	if got := s.ask(t); got == asked {
		t.Error("the container reaches alice without a tunnel")
	}
	lab.Eventually(t, lab.Patience, func() error {
		if now := s.drops(t); now.spoof < before.spoof+3 || now.leak <= before.leak {
			return fmt.Errorf("drops were %+v and are %+v", before, now)
		}
		return nil
	})
	if got := wire.Count(t, func(f lab.Frame) bool { return f.Link == "sun0" && f.Dst == s.Alice.Inner(lab.IPv4) }); got != 0 {
		t.Errorf("%d packets of the container left in clear: %v", got, wire.Frames(t))
	}
	s.done.forged += 3
	s.done.leaks += 3
}

// asked is the text that the container sends to alice's echo server.
const asked = "through the tunnel"

// ask returns the answer of alice to the container, empty if none came.
func (s *site) ask(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(s.try(t, fmt.Sprintf("docker exec echo /bin/busybox sh -c 'echo %s | /bin/busybox timeout 8 /bin/busybox nc -w 6 %s %d' || :",
		asked, s.alice.Addr(), s.alice.Port())).Stdout)
}

// fromContainer fails the test unless the container reaches alice.
func (s *site) fromContainer(t *testing.T, when string) {
	t.Helper()
	if got := s.ask(t); got != asked {
		t.Errorf("%s: alice's answer to the container is %q\n%s", when, got, s.rules(t))
	}
	s.done.flows++
}

// fail2banJail is a jail that bans by its own command alone; its action is Debian's default.
const fail2banJail = `[DEFAULT]
backend = polling
banaction = iptables-multiport
[sshd]
enabled = true
logpath = /run/auth.log
`

// TestFail2ban: fail2ban puts its chain ahead of ours with its first ban and refuses the address, also behind a tunnel, until
// doctor's line puts ours first again. With verified: return the ban holds. Nothing else changes.
func TestFail2ban(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	need(t, "/usr/bin/fail2ban-server")
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	ssh := []way{{s.Alice, s.Sun.ServeTCP(t, netip.AddrPortFrom(s.Sun.Inner(lab.IPv4), 22))}}
	s.flows(t, "before fail2ban", append(s.ways(), ssh...)...)
	write(t, "/etc/fail2ban/jail.local", fail2banJail)
	if err := os.Remove("/etc/fail2ban/jail.d/defaults-debian.conf"); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	write(t, "/run/auth.log", "")
	// Without the option it gives up its own start after 30 s, and runs on without a jail.
	daemon := s.Sun.Start(t, nil, "fail2ban-server", "-f", "--timeout", "600", "-s", "/run/fail2ban.sock", "-p", "/run/fail2ban.pid", "--logtarget", "STDOUT", "start")
	lab.Eventually(t, 10*lab.Patience, func() error {
		if !daemon.Running() {
			t.Fatalf("fail2ban ended: %s", daemon.Output())
		}
		if r := s.try(t, "fail2ban-client -s /run/fail2ban.sock status sshd"); r.Code != 0 {
			return fmt.Errorf("fail2ban: %s%s\n%s", r.Stdout, r.Stderr, daemon.Output())
		}
		return nil
	})
	t.Logf("versions: fail2ban %s", strings.TrimSpace(s.sh(t, "fail2ban-server --version | head -n 1")))
	s.sh(t, fmt.Sprintf("fail2ban-client -s /run/fail2ban.sock set sshd banip %s", s.Alice.Inner(lab.IPv4)))
	lab.Eventually(t, 5*lab.Patience, func() error {
		if rules := s.sh(t, "iptables -S INPUT 1"); !strings.Contains(rules, "-j f2b-sshd") {
			return fmt.Errorf("fail2ban's chain is not first: %s\n%s", rules, daemon.Output())
		}
		return nil
	})
	s.cut(t, "alice is banned", ssh...)
	s.flows(t, "alice is banned from ssh alone")
	s.follow(t, s.finds(t, "alice is banned", "ahead"))
	s.flows(t, "our jump is first again", append(s.ways(), ssh...)...)
	s.finds(t, "our jump is first again")

	// Where a ban is to hold for tunnels too, fail2ban comes to its word.
	s.configure(t, "verified: return\n")
	s.Sun.MustXfrmfw(t, "apply")
	s.cut(t, "verified: return", ssh...)
	s.flows(t, "verified: return, but for ssh")
	s.finds(t, "verified: return", "mark-only")
	s.sh(t, fmt.Sprintf("fail2ban-client -s /run/fail2ban.sock set sshd unbanip %s", s.Alice.Inner(lab.IPv4)))
	s.flows(t, "alice is let in again", append(s.ways(), ssh...)...)
	s.refuses(t, 3)
}
