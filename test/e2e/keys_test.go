package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestKeysAppearNowhere searches all that the program says and writes for the key bytes of the states that it reads.
func TestKeysAppearNowhere(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	sun := n.Sun
	n.Up(t, lab.IPsec{})
	n.Up(t, lab.IPsec{Inner: lab.IPv6, Reqid: 12, CBC: true})
	n.Up(t, lab.IPsec{Reqid: 13, NATT: true, Compress: true, MoonNets: prefixes("10.1.3.0/24")})
	sun.AddSAs(t, lab.SA{Src: n.Moon.Outer(lab.IPv4), Dst: sun.Outer(lab.IPv4), Proto: "ah", SPI: 0xe001, Mode: lab.Transport, Reqid: 14})
	if lab.KeyIn(sun.Run(t, "ip", "-d", "xfrm", "state")) == "" {
		t.Fatal("the kernel shows no keys: nothing can be found")
	}
	temporary := t.TempDir()
	snapshot := filepath.Join(sun.EtcDir(), "snapshot.json")
	broken := filepath.Join(sun.EtcDir(), "broken.yaml")
	if err := os.WriteFile(broken, []byte("wann: [eth0]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	failing := newStandIn(t, map[string]string{"-restore": "cat >&2\nexit 1\n"})
	spoiling := newStandIn(t, map[string]string{"-save": "echo '-A nonsense'\n"})
	run := func(code int, r lab.Result, what ...string) string {
		t.Helper()
		name := "xfrmfw " + strings.Join(what, " ")
		if r.Code != code {
			t.Errorf("%s: exit status %d, want %d\n%s", name, r.Code, code, r.Stderr)
		}
		for _, text := range []string{r.Stdout, r.Stderr} {
			if form := lab.KeyIn(text); form != "" {
				t.Errorf("%s prints a key as %s", name, form)
			}
		}
		return r.Stdout
	}
	do := func(code int, args ...string) string {
		t.Helper()
		return run(code, sun.XfrmfwWith(t, []string{"TMPDIR=" + temporary}, "", args...), args...)
	}
	do(0, "apply", "--dry-run")
	do(0, "apply", "--dry-run", "--diff")
	run(1, failing.xfrmfw(t, sun, "apply"), "apply, with a failing iptables-restore")
	run(1, spoiling.xfrmfw(t, sun, "apply"), "apply, with an iptables-save that talks nonsense")
	do(3, "check")
	do(0, "apply")
	do(0, "check")
	do(0, "status")
	do(0, "status", "--verbose", "--all")
	do(2, "status", "nosuch")
	text := do(0, "snapshot")
	if !strings.Contains(text, "rfc4106(gcm(aes))") || !strings.Contains(text, "45057") {
		t.Errorf("the snapshot has not the states that the keys are of:\n%s", text)
	}
	if err := os.WriteFile(snapshot, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	do(0, "status", "--json", "--snapshot", "/etc/xfrmfw/snapshot.json")
	do(0, "apply", "--dry-run", "--snapshot", "/etc/xfrmfw/snapshot.json")
	do(2, "apply", "--config", "/etc/xfrmfw/broken.yaml")
	do(0, "hook")
	do(0, "status", "--json")
	do(0, "clear")

	// Files that it wrote, and files that it may have left behind.
	read := 0
	for _, dir := range []string{sun.EtcDir(), sun.StateDir(), sun.RunDir(), temporary, "/run"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			read++
			if form := lab.KeyIn(string(content)); form != "" {
				t.Errorf("%s holds a key as %s", path, form)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if read < 3 { // the snapshot, the broken configuration and a lock
		t.Errorf("only %d files were read", read)
	}
}
