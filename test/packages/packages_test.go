// Package packages tests the contents of the packages that scripts/package made:
//
//	scripts/package FOLDER
//	XFRMFW_PACKAGES=FOLDER go test ./test/packages
//
// Without XFRMFW_PACKAGES its tests are skipped, or fail if XFRMFW_REQUIRE has packages.
// test/systemd tests a machine on which they are installed.
package packages

import (
	"debug/buildinfo"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// A pkg is one package, unpacked.
type pkg struct {
	file, format string
	machine      elf.Machine
	tree         string
}

// unpacked unpacks all packages.
func unpacked(t *testing.T) []pkg {
	t.Helper()
	dir := os.Getenv("XFRMFW_PACKAGES")
	if dir == "" {
		lab.Lacking(t, "packages", "XFRMFW_PACKAGES is not set to the folder that scripts/package wrote to")
	}
	// The names in the rpms are absolute: without its option, cpio would install them here.
	kinds := []struct {
		pattern string
		machine elf.Machine
		unpack  string
	}{
		{"xfrmfw_*_amd64.deb", elf.EM_X86_64, `dpkg-deb -x "$1" "$2"`},
		{"xfrmfw_*_arm64.deb", elf.EM_AARCH64, `dpkg-deb -x "$1" "$2"`},
		{"xfrmfw-*.x86_64.rpm", elf.EM_X86_64, `cd "$2" && rpm2cpio "$1" | cpio -id --quiet --no-absolute-filenames`},
		{"xfrmfw-*.aarch64.rpm", elf.EM_AARCH64, `cd "$2" && rpm2cpio "$1" | cpio -id --quiet --no-absolute-filenames`},
	}
	var all []pkg
	for _, kind := range kinds {
		found, err := filepath.Glob(filepath.Join(dir, kind.pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("%d packages %s in %s, want 1: run scripts/package", len(found), kind.pattern, dir)
		}
		p := pkg{file: found[0], format: strings.TrimPrefix(filepath.Ext(found[0]), "."), machine: kind.machine, tree: t.TempDir()}
		run(t, "sh", "-ec", kind.unpack, "sh", p.file, p.tree)
		all = append(all, p)
	}
	return all
}

func run(t *testing.T, command string, args ...string) string {
	t.Helper()
	cmd := exec.Command(command, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", command, args, err, out, stderr.String())
	}
	return string(out)
}

func (p pkg) read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.tree, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// manPage is a manual page where man looks for one of its section.
var manPage = regexp.MustCompile(`^/usr/share/man/man([578])/xfrmfw[a-z.-]*\.([578])\.gz$`)

// TestContents is where each file is, and that there is no other.
func TestContents(t *testing.T) {
	want := []string{
		"/etc/xfrmfw/xfrmfw.yaml", "/usr/lib/systemd/system/xfrmfw-boot.service", "/usr/lib/systemd/system/xfrmfw.service",
		"/usr/lib/sysusers.d/xfrmfw.conf", "/usr/lib/tmpfiles.d/xfrmfw.conf", "/usr/libexec/xfrmfw/updown", "/usr/sbin/xfrmfw", "/usr/share/bash-completion/completions/xfrmfw",
		"/usr/share/doc/xfrmfw/README.md.gz", "/usr/share/doc/xfrmfw/copyright",
		"/usr/share/doc/xfrmfw/examples/openrc", "/usr/share/doc/xfrmfw/examples/procd",
		"/usr/share/fish/vendor_completions.d/xfrmfw.fish", "/usr/share/xfrmfw/alerts.yaml", "/usr/share/xfrmfw/grafana.json",
		"/usr/share/xfrmfw/legacy.conf", "/usr/share/xfrmfw/unprivileged.conf",
	}
	only := map[string][]string{
		"deb": {"/usr/share/doc/xfrmfw/changelog.Debian.gz", "/usr/share/doc/xfrmfw/changelog.gz", "/usr/share/lintian/overrides/xfrmfw", "/usr/share/zsh/vendor-completions/_xfrmfw"},
		"rpm": {"/usr/share/doc/xfrmfw/CHANGELOG", "/usr/share/selinux/packages/xfrmfw.cil", "/usr/share/zsh/site-functions/_xfrmfw"},
	}
	for _, p := range unpacked(t) {
		var got []string
		pages := 0
		err := filepath.WalkDir(p.tree, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			name := strings.TrimPrefix(path, p.tree)
			if words := manPage.FindStringSubmatch(name); words != nil && words[1] == words[2] {
				pages++
				return nil
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			mode := fs.FileMode(0o644)
			if name == "/usr/sbin/xfrmfw" || name == "/usr/libexec/xfrmfw/updown" {
				mode = 0o755
			}
			if info.Mode() != mode {
				t.Errorf("%s: %s has mode %v, want %v", filepath.Base(p.file), name, info.Mode(), mode)
			}
			got = append(got, name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		all := append(slices.Clone(want), only[p.format]...)
		slices.Sort(all)
		slices.Sort(got)
		if !slices.Equal(got, all) {
			t.Errorf("%s holds\n%s\nwant\n%s", filepath.Base(p.file), strings.Join(got, "\n"), strings.Join(all, "\n"))
		}
		if pages < 18 {
			t.Errorf("%s: %d manual pages", filepath.Base(p.file), pages)
		}
	}
}

// TestBinary is that the binary is static, for its machine, and names the source that it
// was built from.
func TestBinary(t *testing.T) {
	for _, p := range unpacked(t) {
		path := filepath.Join(p.tree, "usr/sbin/xfrmfw")
		f, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != p.machine {
			t.Errorf("%s: the binary is for %v", filepath.Base(p.file), f.Machine)
		}
		for _, section := range f.Progs {
			if section.Type == elf.PT_INTERP || section.Type == elf.PT_DYNAMIC {
				t.Errorf("%s: the binary is not static", filepath.Base(p.file))
			}
		}
		f.Close()
		if p.machine != elf.EM_X86_64 {
			continue
		}
		out := run(t, path, "version")
		if !regexp.MustCompile(`(?m)^xfrmfw +[0-9]\S+\ncommit +[0-9a-f]{40}`).MatchString(out) || !strings.Contains(out, "-trimpath=true CGO_ENABLED=0") {
			t.Errorf("xfrmfw version says\n%s", out)
		}
		for _, shell := range []string{"bash", "zsh", "fish"} {
			if out := run(t, path, "completion", shell); len(out) < 1000 {
				t.Errorf("completion %s prints\n%s", shell, out)
			}
		}
	}
}

// TestLicences is that the licence of each module that was linked is there, and of no other; and that none is claimed for
// xfrmfw itself.
func TestLicences(t *testing.T) {
	for _, p := range unpacked(t) {
		info, err := buildinfo.ReadFile(filepath.Join(p.tree, "usr/sbin/xfrmfw"))
		if err != nil {
			t.Fatal(err)
		}
		linked := []string{"Go, its standard library and runtime " + info.GoVersion}
		for _, module := range info.Deps {
			linked = append(linked, module.Path+" "+module.Version)
		}
		text := p.read(t, "usr/share/doc/xfrmfw/copyright")
		var held []string
		parts := regexp.MustCompile(`(?m)^==== (.*): (\S+)$`).FindAllStringSubmatchIndex(text, -1)
		for i, at := range parts {
			name, file, end := text[at[2]:at[3]], text[at[4]:at[5]], len(text)
			if i+1 < len(parts) {
				end = parts[i+1][0]
			}
			if words := strings.Fields(text[at[1]:end]); len(words) < 15 {
				t.Errorf("%s of %s is %q", file, name, words)
			}
			if regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright)`).MatchString(file) {
				held = append(held, name)
			}
		}
		slices.Sort(linked)
		slices.Sort(held)
		if held = slices.Compact(held); !slices.Equal(held, linked) {
			t.Errorf("%s has the licences of\n%s\nand is linked with\n%s", filepath.Base(p.file), strings.Join(held, "\n"), strings.Join(linked, "\n"))
		}
		if p.format == "rpm" {
			if got := strings.TrimSpace(run(t, "rpm", "-qp", "--qf", "%{LICENSE}", p.file)); got != "" && got != "(none)" {
				t.Errorf("the rpm claims the licence %q: that is its owner's choice", got)
			}
		}
	}
}

// TestMetadata is the metadata for dpkg and rpm.
func TestMetadata(t *testing.T) {
	for _, p := range unpacked(t) {
		name := filepath.Base(p.file)
		if p.format == "deb" {
			if got := run(t, "dpkg-deb", "--ctrl-tarfile", p.file); !strings.Contains(got, "postinst") {
				t.Errorf("%s has no postinst", name)
			}
			if got := run(t, "dpkg-deb", "-I", p.file, "conffiles"); strings.TrimSpace(got) != "/etc/xfrmfw/xfrmfw.yaml" {
				t.Errorf("%s: conffiles are %q", name, got)
			}
			// The nftables engine needs no iptables.
			if got := run(t, "dpkg-deb", "-f", p.file, "Depends"); strings.TrimSpace(got) != "" {
				t.Errorf("%s depends on %q", name, got)
			}
			if got := run(t, "dpkg-deb", "-f", p.file, "Recommends"); !strings.Contains(got, "iptables (>= 1.6.2)") {
				t.Errorf("%s recommends %q", name, got)
			}
			continue
		}
		if got := run(t, "rpm", "-qpc", p.file); strings.TrimSpace(got) != "/etc/xfrmfw/xfrmfw.yaml" {
			t.Errorf("%s: configuration files are %q", name, got)
		}
		if got := run(t, "rpm", "-qp", "--qf", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]", p.file); !strings.Contains(got, "xfrmfw.yaml cn") {
			t.Errorf("%s: an upgrade may replace the configuration: %s", name, got)
		}
		if got := strings.Fields(run(t, "rpm", "-qp", "--requires", p.file)); slices.Contains(got, "iptables") {
			t.Errorf("%s requires %q", name, got)
		}
		if got := strings.Fields(run(t, "rpm", "-qp", "--recommends", p.file)); !slices.Contains(got, "iptables") {
			t.Errorf("%s recommends %q", name, got)
		}
		got := run(t, "rpm", "-qp", "--scripts", p.file)
		for _, want := range []string{"postinstall scriptlet", "preuninstall scriptlet", "postuninstall scriptlet", "xfrmfw clear"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s lacks %q in its scripts", name, want)
			}
		}
	}
}

// TestCompletions is that the shells that are here can read theirs, and that bash's knows the commands.
func TestCompletions(t *testing.T) {
	p := unpacked(t)[0]
	script := filepath.Join(p.tree, "usr/share/bash-completion/completions/xfrmfw")
	run(t, "bash", "-n", script)
	out := run(t, "bash", "-ec", `PATH=$2:$PATH; . "$1"; xfrmfw __complete appl 2>/dev/null; complete -p xfrmfw`, "bash", script, filepath.Join(p.tree, "usr/sbin"))
	for _, want := range []string{"apply", "__start_xfrmfw"} {
		if !strings.Contains(out, want) {
			t.Errorf("completing appl gives %q, want %q in it", out, want)
		}
	}
	for _, other := range []string{"zsh/vendor-completions/_xfrmfw", "fish/vendor_completions.d/xfrmfw.fish"} {
		if text := p.read(t, "usr/share/"+other); !strings.Contains(text, "__complete") || !strings.Contains(text, "xfrmfw") {
			t.Errorf("%s asks xfrmfw for nothing", other)
		}
	}
}
