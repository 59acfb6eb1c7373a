package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// smallHost are the functions that procd and OpenRC give a service, for busybox. The command of the service is to replace
// the shell: a daemon in its background would outlive it, and the test would wait for the output of both.
const smallHost = `echo $$ >/pid
/bin/busybox --install -s /bin
mount -t proc proc /proc
mkdir /dev
mknod /dev/null c 1 3
procd_open_instance() { :; }
procd_set_param() { [ "$1" != command ] || { shift; instance=$*; }; }
procd_close_instance() { :; }
logger() { cat; }
need() { :; }
use() { :; }
after() { :; }
before() { :; }
ewarn() { echo "$@"; }
. /etc/init.d/xfrmfw
`

// TestServicesOfSmallHosts has a gateway whose disk holds busybox, the program and a service alone, as Alpine and OpenWrt
// have them: no iptables, no nft, no systemd. The service is run by busybox's shell as it is shipped.
func TestServicesOfSmallHosts(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	const busybox = "/usr/bin/busybox"
	if _, err := os.Stat(busybox); err != nil {
		t.Fatalf("no busybox (%v): run scripts/fetch guest:busybox-static", err)
	}
	for _, service := range []struct{ name, start string }{
		{"procd", `start_service; exec $instance`},
		{"openrc", `depend; start_pre; exec "$command" $command_args`},
	} {
		t.Run(service.name, func(t *testing.T) {
			n := lab.NewNetwork(t)
			f := lab.IPv4
			root := t.TempDir()
			for _, dir := range []string{"bin", "proc", "sys", "tmp", "run", "var/lib", "etc"} {
				if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for from, to := range map[string]string{
				busybox: "bin/busybox", lab.Binary(t): "usr/sbin/xfrmfw", "../../scripts/dist/init/" + service.name: "etc/init.d/xfrmfw",
			} {
				text, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				small(t, filepath.Join(root, to), string(text))
			}
			small(t, filepath.Join(root, "etc/xfrmfw/xfrmfw.yaml"), "engine: nftables\naccept: none\n")
			small(t, filepath.Join(root, "start"), smallHost+service.start+"\n")
			// Commands run among the mounts of the service.
			run := func(args ...string) lab.Result {
				t.Helper()
				return n.Sun.Call(t, nil, "", "sh", append([]string{"-c", `exec nsenter -t "$(cat "$0/pid")" -m chroot "$0" /usr/sbin/xfrmfw "$@"`, root}, args...)...)
			}
			n.Up(t, lab.IPsec{})
			daemon := n.Sun.Start(t, []string{"PATH=/bin:/usr/sbin"}, "/bin/sh", "-c",
				`/bin/mount --bind /sys "$0/sys" && exec /usr/sbin/chroot "$0" /bin/busybox sh /start`, root)
			settled := func() error {
				if r := run("check"); r.Code != 0 {
					return fmt.Errorf("check: %s%s\n%s", r.Stdout, r.Stderr, daemon.Output())
				}
				if r := run("status"); !strings.Contains(r.Stdout, "daemon running") {
					return fmt.Errorf("status: %s%s\n%s", r.Stdout, r.Stderr, daemon.Output())
				}
				return nil
			}
			lab.Eventually(t, 12*lab.Patience, settled)
			n.Alice.MustPing(t, n.Bob.Inner(f), 2)
			n.Bob.MustPing(t, n.Alice.Inner(f), 2)

			n.Down(t, lab.IPsec{})
			lab.Eventually(t, 12*lab.Patience, settled)
			wire := n.Wire(t)
			inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7900))
			n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(f), 7001), inbox.Addr, "forged").Times(perAttack)...)
			n.Bob.MustNotPing(t, n.Alice.Inner(f), 2)
			lab.Eventually(t, lab.Patience, func() error {
				var r struct {
					Drops map[string]struct{ Packets int }
				}
				if err := json.Unmarshal([]byte(run("status", "--json").Stdout), &r); err != nil {
					return err
				}
				if r.Drops["spoof"].Packets < perAttack || r.Drops["leak"].Packets < 2 {
					return fmt.Errorf("dropped are %v", r.Drops)
				}
				return nil
			})
			if got := inbox.Count("forged"); got != 0 {
				t.Errorf("%d of %d forged packets came through", got, perAttack)
			}
			if got := wire.Count(t, func(frame lab.Frame) bool { return frame.Link == "sun0" && frame.Dst == n.Alice.Inner(f) }); got != 0 {
				t.Errorf("%d packets left in clear", got)
			}
		})
	}
}

// small writes a program of a small host.
func small(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
