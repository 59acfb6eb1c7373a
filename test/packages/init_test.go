package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// initFakes are the functions that OpenRC and procd give a service's script, and the programs that it calls: each prints
// how it was called.
const initFakes = `
for name in need use after before ebegin eend ewarn supervise-daemon procd_open_instance procd_set_param procd_close_instance \
	procd_send_signal mount; do
	alias "$name=called $name"
done
called() { echo "$*"; }
logger() { cat; }
`

// runInit runs a function of a service's script, with the host's folders below root, and returns its calls.
func runInit(t *testing.T, script, function, root string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../scripts/dist/init", script))
	if err != nil {
		t.Fatal(err)
	}
	paths := strings.NewReplacer("/usr/sbin/xfrmfw", root+"/xfrmfw", "/etc/xfrmfw", root+"/etc", "/var/lib/xfrmfw", root+"/var", " /run", " "+root+"/run",
		"/proc/mounts", root+"/mounts")
	cmd := exec.Command("sh", "-ec", initFakes+paths.Replace(string(text))+"\n"+function)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "RC_SVCNAME=xfrmfw"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", script, function, err, out)
	}
	return strings.Split(strings.TrimSpace(strings.ReplaceAll(string(out), root, "ROOT")), "\n")
}

// TestInitScripts is the services for hosts without systemd: the rules come before the daemon, a failed apply keeps no
// daemon from starting, and a directory is mounted once.
func TestInitScripts(t *testing.T) {
	apply := "xfrmfw apply --unattended"
	daemon := []string{apply, "procd_open_instance", "procd_set_param command ROOT/xfrmfw daemon", "procd_set_param respawn 3600 2 0",
		"procd_set_param stdout 1", "procd_set_param stderr 1", "procd_close_instance"}
	mounts := []string{"mount -o bind ROOT/etc/state ROOT/var", "mount -t tmpfs -o mode=755,size=8m run ROOT/run"}
	for _, test := range []struct {
		name, script, function, mounts string
		code                           string
		want                           []string
	}{
		{"procd starts", "procd", "start_service", "", "0", append(mounts, daemon...)},
		{"procd starts again", "procd", "start_service", "flash ROOT/var ext4 rw 0 0\nrun ROOT/run tmpfs rw 0 0\n", "1", daemon},
		{"procd reloads", "procd", "reload_service", "", "0", []string{"procd_send_signal xfrmfw * HUP"}},
		{"OpenRC starts", "openrc", "start_pre", "", "0", []string{apply}},
		{"OpenRC starts, apply fails", "openrc", "start_pre", "", "1", []string{apply, "ewarn xfrmfw apply failed; the daemon tries again"}},
		{"OpenRC reloads", "openrc", "reload", "", "0", []string{"ebegin Reloading xfrmfw", "supervise-daemon xfrmfw --signal HUP", "eend 0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range map[string]string{"xfrmfw": "#!/bin/sh\necho xfrmfw \"$@\"\nexit " + test.code + "\n", "mounts": strings.ReplaceAll(test.mounts, "ROOT", root)} {
				if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(test.want, runInit(t, test.script, test.function, root)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
