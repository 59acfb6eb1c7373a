package packages

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestSELinuxModule compiles the module of the .rpm with all modules of a reference policy, and looks into the result.
// XFRMFW_SELINUX_POLICY is a folder with them (*.pp.bz2), such as /usr/share/selinux/default of Debian's
// selinux-policy-default. It takes minutes, so it is the campaign selinux of scripts/soak.
func TestSELinuxModule(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	const pp = "/usr/libexec/selinux/hll/pp"
	modules, _ := filepath.Glob(filepath.Join(os.Getenv("XFRMFW_SELINUX_POLICY"), "*.pp.bz2"))
	missing := ""
	for _, tool := range []string{"secilc", "sesearch", "seinfo", "bunzip2", pp} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = err.Error()
		}
	}
	if len(modules) == 0 {
		missing = "no *.pp.bz2 in XFRMFW_SELINUX_POLICY"
	}
	if missing != "" {
		lab.Lacking(t, "selinux", missing)
	}
	dir := t.TempDir()
	sources := []string{"../../scripts/dist/selinux/xfrmfw.cil"}
	for _, module := range modules {
		packed := run(t, "bunzip2", "-c", module)
		source := filepath.Join(dir, strings.TrimSuffix(filepath.Base(module), ".pp.bz2")+".cil")
		cmd := exec.Command(pp)
		cmd.Stdin = strings.NewReader(packed)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", module, err, stderr.String())
		}
		if err := os.WriteFile(source, text, 0o600); err != nil {
			t.Fatal(err)
		}
		sources = append(sources, source)
	}
	policy, contexts := filepath.Join(dir, "policy.33"), filepath.Join(dir, "file_contexts")
	run(t, "secilc", append([]string{"-M", "1", "-c", "33", "-o", policy, "-f", contexts}, sources...)...)

	for _, caller := range []string{"init_t", "ipsec_t", "ipsec_mgmt_t"} {
		for _, ask := range []struct{ class, target, want string }{
			{"", "xfrmfw_exec_t", "type_transition " + caller + " xfrmfw_exec_t:process xfrmfw_t;"},
			{"file", "xfrmfw_exec_t", "allow " + caller + " xfrmfw_exec_t:file { execute getattr map open read };"},
			{"process", "xfrmfw_t", "transition"},
			{"process2", "xfrmfw_t", "allow " + caller + " xfrmfw_t:process2 { nnp_transition nosuid_transition };"},
		} {
			args := []string{"-T", "-s", caller, "-t", ask.target, policy}
			if ask.class != "" {
				args = []string{"-A", "-s", caller, "-t", ask.target, "-c", ask.class, policy}
			}
			if got := run(t, "sesearch", args...); !strings.Contains(got, ask.want) {
				t.Errorf("%s: no %q in\n%s", caller, ask.want, got)
			}
		}
	}
	// The IKE daemon could neither run the program's iptables nor write its records by itself.
	if got := run(t, "sesearch", "-A", "-s", "ipsec_t", "-t", "xfrmfw_var_run_t", "-c", "sock_file", policy); strings.Contains(got, "write") {
		t.Errorf("ipsec_t may write to the socket itself:\n%s", got)
	}
	if got := run(t, "seinfo", policy, "--permissive"); !strings.Contains(got, "xfrmfw_t") {
		t.Errorf("the domain is not permissive:\n%s", got)
	}
	labels, err := os.ReadFile(contexts)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/usr/sbin/xfrmfw\t--\tsystem_u:object_r:xfrmfw_exec_t:s0", "/run/xfrmfw(/.*)?\tsystem_u:object_r:xfrmfw_var_run_t:s0"} {
		if !strings.Contains(string(labels), want+"\n") {
			t.Errorf("no label %q", want)
		}
	}
	t.Logf("compiled with %d modules", len(modules))
}
