package packages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakes are programs that only write down how they were called, and with which lock file. deb-systemd-helper knows of units
// that were enabled where enabled is set.
const fakes = `#!/bin/sh
echo "${0##*/} $*${XTABLES_LOCKFILE:+ [lock $XTABLES_LOCKFILE]}" >>"$LOG"
case "${0##*/} $*" in
"systemctl show --property=Environment"*) echo "$UNIT_ENVIRONMENT" ;;
"deb-systemd-helper debian-installed "* | "deb-systemd-helper --quiet was-enabled "*) [ -n "$ENABLED" ] || exit 1 ;;
"selinuxenabled "*) [ -n "$SELINUX" ] || exit 1 ;;
esac
`

// runScript runs a maintainer script with such programs, on a machine with systemd, and returns their calls.
func runScript(t *testing.T, script string, environment []string, args ...string) []string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"systemctl", "systemd-sysusers", "systemd-tmpfiles", "deb-systemd-helper", "deb-systemd-invoke",
		"xfrmfw", "semodule", "selinuxenabled", "restorecon", "systemd-update-helper", "rm", "rmdir"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fakes), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join("../../scripts/dist/packaging", script))
	if err != nil {
		t.Fatal(err)
	}
	// The script's questions about the machine itself are answered with true.
	asked := strings.NewReplacer("[ -d /run/systemd/system ]", "true", "/usr/lib/systemd/systemd-update-helper", filepath.Join(dir, "systemd-update-helper")).Replace(string(text))
	log := filepath.Join(dir, "log")
	cmd := exec.Command("sh", append([]string{"-c", asked, script}, args...)...)
	cmd.Env = append([]string{"PATH=" + dir + ":/usr/bin:/bin", "LOG=" + log}, environment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", script, args, err, out)
	}
	calls, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(strings.ReplaceAll(string(calls), dir+"/", "")), "\n")
}

// TestMaintainerScripts is the commands that the packages' scripts run on the machine, in
// each of their calls.
func TestMaintainerScripts(t *testing.T) {
	const lock = `UNIT_ENVIRONMENT=GOMAXPROCS=1 "XTABLES_LOCKFILE=/run/lock/other" A=b`
	accounts := []string{"systemd-sysusers xfrmfw.conf", "systemd-tmpfiles --create xfrmfw.conf"}
	fresh := append(accounts[:2:2],
		"deb-systemd-helper debian-installed xfrmfw.service", "deb-systemd-helper update-state xfrmfw.service",
		"deb-systemd-helper debian-installed xfrmfw-boot.service", "deb-systemd-helper update-state xfrmfw-boot.service",
		"systemctl --system daemon-reload")
	again := accounts[:2:2]
	for _, unit := range []string{"xfrmfw.service", "xfrmfw-boot.service"} {
		again = append(again, "deb-systemd-helper debian-installed "+unit, "deb-systemd-helper --quiet was-enabled "+unit,
			"deb-systemd-helper enable "+unit, "deb-systemd-helper update-state "+unit)
	}
	again = append(again, "systemctl --system daemon-reload")
	const shown = "systemctl show --property=Environment --value xfrmfw.service"
	for _, tt := range []struct {
		name, script string
		environment  []string
		args         []string
		want         []string
	}{
		{"a new package enables nothing", "deb.postinst", nil, []string{"configure", ""}, fresh},
		{"one that comes back is as it was", "deb.postinst", []string{"ENABLED=1"}, []string{"configure", ""}, again},
		{"an upgrade restarts what runs", "deb.postinst", []string{"ENABLED=1"}, []string{"configure", "1"},
			append(again[:len(again):len(again)], "deb-systemd-invoke try-restart xfrmfw.service")},
		{"triggers are others'", "deb.postinst", nil, []string{"triggered"}, []string{""}},
		{"an upgrade leaves the rules", "deb.prerm", nil, []string{"upgrade", "2"}, []string{""}},
		{"a removal takes the rules", "deb.prerm", nil, []string{"remove"},
			[]string{shown, "deb-systemd-invoke stop xfrmfw.service xfrmfw-boot.service", "xfrmfw clear --config /dev/null"}},
		{"under the lock of the unit", "deb.prerm", []string{lock}, []string{"remove"},
			[]string{shown, "deb-systemd-invoke stop xfrmfw.service xfrmfw-boot.service [lock /run/lock/other]", "xfrmfw clear --config /dev/null [lock /run/lock/other]"}},
		{"or the lock that the caller names", "deb.prerm", []string{lock, "XTABLES_LOCKFILE=/mine"}, []string{"remove"},
			[]string{"deb-systemd-invoke stop xfrmfw.service xfrmfw-boot.service [lock /mine]", "xfrmfw clear --config /dev/null [lock /mine]"}},
		{"a removal leaves the state", "deb.postrm", nil, []string{"remove"}, []string{"systemctl --system daemon-reload"}},
		{"a purge does not", "deb.postrm", nil, []string{"purge"},
			[]string{"deb-systemd-helper purge xfrmfw.service xfrmfw-boot.service", "rm -rf /var/lib/xfrmfw /run/xfrmfw /run/xfrmfw-metrics"}},
		{"rpm: a new package", "rpm.post", nil, []string{"1"},
			append(accounts[:2:2], "systemctl daemon-reload", "systemd-update-helper install-system-units xfrmfw.service xfrmfw-boot.service", "selinuxenabled ")},
		{"rpm: with SELinux", "rpm.post", []string{"SELINUX=1"}, []string{"2"},
			append(accounts[:2:2], "systemctl daemon-reload", "selinuxenabled ", "semodule -X 200 -i /usr/share/selinux/packages/xfrmfw.cil",
				"restorecon -R /usr/sbin/xfrmfw /usr/bin/xfrmfw /run/xfrmfw /run/xfrmfw-metrics /var/lib/xfrmfw")},
		{"rpm: an upgrade leaves the rules", "rpm.preun", nil, []string{"1"}, []string{""}},
		{"rpm: a removal takes them under the unit's lock", "rpm.preun", []string{lock}, []string{"0"},
			[]string{shown, "systemctl --no-reload disable --now xfrmfw.service xfrmfw-boot.service [lock /run/lock/other]", "xfrmfw clear --config /dev/null [lock /run/lock/other]"}},
		{"rpm: an upgrade restarts what runs", "rpm.postun", nil, []string{"1"}, []string{"systemctl daemon-reload", "systemctl try-restart xfrmfw.service"}},
		{"rpm: a removal takes the module", "rpm.postun", []string{"SELINUX=1"}, []string{"0"},
			[]string{"systemctl daemon-reload", "rm -rf /var/lib/xfrmfw /run/xfrmfw /run/xfrmfw-metrics", "selinuxenabled ", "semodule -X 200 -r xfrmfw"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := runScript(t, tt.script, tt.environment, tt.args...)
			for i := range got {
				// The folder of the configuration is there on some machines.
				if strings.HasPrefix(got[i], "rmdir ") {
					got = append(got[:i], got[i+1:]...)
					break
				}
				got[i] = strings.TrimSuffix(got[i], "\n")
			}
			want := append([]string(nil), tt.want...)
			for i := range want {
				want[i] = strings.TrimRight(want[i], " ")
			}
			for i := range got {
				got[i] = strings.TrimRight(got[i], " ")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestUnits is the lines of the units that nothing else on this machine shows.
func TestUnits(t *testing.T) {
	for file, lines := range map[string][]string{
		"systemd/xfrmfw.service":    {"OOMScoreAdjust=-900", "ReadWritePaths=-/run/xfrmfw-metrics"},
		"systemd/unprivileged.conf": {"ExecStartPre=-+/bin/chown xfrmfw /run/xfrmfw-metrics"},
		"packaging/tmpfiles.conf":   {"d /run/xfrmfw-metrics 2750 root xfrmfw-metrics -"},
		"packaging/sysusers.conf":   {`u xfrmfw - "xfrmfw daemon" /var/lib/xfrmfw`, "g xfrmfw-metrics -"},
		"systemd/legacy.conf":       {`ExecStartPre=+/bin/sh -c 'umask 077 && : >>"$${XTABLES_LOCKFILE:-/run/xtables.lock}"'`},
	} {
		text, err := os.ReadFile(filepath.Join("../../scripts/dist", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if !strings.Contains("\n"+string(text)+"\n", "\n"+line+"\n") {
				t.Errorf("%s lacks %q", file, line)
			}
		}
	}
}

// TestSocketGetsFolderGroup: a file that a process makes in a folder like that of
// tmpfiles.conf gets the folder's group.
func TestSocketGetsFolderGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("root: only root gives a folder to a group that it is no member of")
	}
	dir := filepath.Join(t.TempDir(), "metrics")
	const group = 4242
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	run(t, "chgrp", fmt.Sprint(group), dir)
	run(t, "chmod", "2750", dir)
	run(t, "mkfifo", filepath.Join(dir, "socket"))
	if got := run(t, "stat", "-c", "%g", filepath.Join(dir, "socket")); got != fmt.Sprintf("%d\n", group) {
		t.Errorf("the group is %s", got)
	}
}
