package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// charonPath is where Debian has strongSwan's IKE daemon; scripts/fetch strongswan puts it into the guest.
const charonPath = "/usr/lib/ipsec/charon"

// runsCharon gives charon a /run of its own, for its pid file, that still has the host's /run/xfrmfw.
const runsCharon = `mount --bind /run/xfrmfw /mnt && mount -t tmpfs run /run && mkdir /run/xfrmfw &&
mount --move /mnt /run/xfrmfw && exec "$0"`

// A Charon is strongSwan's IKE daemon on one host.
type Charon struct {
	*Process

	host *Host
	dir  string
	env  []string
}

// StartCharon starts strongSwan on the host with the text of a swanctl.conf, and returns when that is loaded. Settings
// are lines for the section charon of strongswan.conf. The test is skipped where strongSwan is not there.
func (h *Host) StartCharon(t testing.TB, swanctl string, settings ...string) *Charon {
	t.Helper()
	if _, err := os.Stat(charonPath); err != nil {
		Lacking(t, "strongswan", fmt.Sprintf("%v; run: scripts/fetch strongswan", err))
	}
	// A short path, as that of a Unix socket may have 107 bytes.
	dir, err := os.MkdirTemp("", "ike")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &Charon{host: h, dir: dir}
	c.env = []string{"STRONGSWAN_CONF=" + filepath.Join(dir, "strongswan.conf"), "SWANCTL_DIR=" + dir}
	c.write(t, "strongswan.conf", strongswanConf(dir, settings))
	c.write(t, "swanctl.conf", swanctl)
	c.Restart(t)
	return c
}

// Restart starts the daemon once more, after it was killed, with the same configuration.
func (c *Charon) Restart(t testing.TB) {
	t.Helper()
	c.Process = c.host.Start(t, c.env, "sh", "-c", runsCharon, charonPath)
	c.WaitOutput(t, "spawning 16 worker threads")
	c.Swanctl(t, "--load-all")
}

// Kill ends the daemon as a crash would: it tells nobody.
func (c *Charon) Kill(t testing.TB) {
	t.Helper()
	c.Signal(t, syscall.SIGKILL)
	c.Wait(t, Patience)
}

// Load replaces the configuration.
func (c *Charon) Load(t testing.TB, swanctl string) {
	t.Helper()
	c.write(t, "swanctl.conf", swanctl)
	c.Swanctl(t, "--load-all")
}

func (c *Charon) write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Swanctl runs swanctl on the host; the test fails if it does.
func (c *Charon) Swanctl(t testing.TB, args ...string) string {
	t.Helper()
	result := c.TrySwanctl(t, args...)
	if result.Code != 0 {
		t.Fatalf("%s: swanctl %s: exit status %d\n%s%s", c.host.Name, strings.Join(args, " "), result.Code,
			indent("output", result.Stdout+result.Stderr), indent("charon", c.Output()))
	}
	return result.Stdout
}

// TrySwanctl runs swanctl on the host, whether it succeeds or not.
func (c *Charon) TrySwanctl(t testing.TB, args ...string) Result {
	t.Helper()
	return c.host.Call(t, c.env, "", "swanctl", args...)
}

// SwanctlEach runs swanctl once for each list of arguments, all at once, and fails the test if one does.
func (c *Charon) SwanctlEach(t testing.TB, calls ...string) {
	t.Helper()
	var script strings.Builder
	for _, call := range calls {
		fmt.Fprintf(&script, "swanctl %s >/dev/null || echo %q failed &\n", call, call)
	}
	result := c.host.Call(t, c.env, "", "sh", "-c", script.String()+"wait")
	if result.Code != 0 || result.Stdout+result.Stderr != "" {
		t.Fatalf("%s: swanctl: %+v\n%s", c.host.Name, result, indent("charon", c.Output()))
	}
}

// strongswanConf is the configuration of charon and swanctl, with their socket in that folder.
func strongswanConf(dir string, settings []string) string {
	return fmt.Sprintf(`
charon {
	load = random nonce openssl pem pkcs1 x509 hmac kdf md5 sha1 sha2 aes gcm eap-identity eap-md5 kernel-netlink socket-default vici updown
	%[2]s
	plugins {
		vici {
			socket = unix://%[1]s/vici
		}
	}
	filelog {
		stderr {
			default = 1
			flush_line = yes
		}
	}
}
swanctl {
	socket = unix://%[1]s/vici
	load = random nonce openssl pem pkcs1 x509 hmac sha1 sha2 aes
}
`, dir, strings.Join(settings, "\n\t"))
}
