package gather

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// root is a host made of these files.
func root(t *testing.T, files map[string]string) Host {
	t.Helper()
	h := Host{t.TempDir()}
	for name, text := range files {
		path := filepath.Join(h.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// TestModules: a module counts as there if it is loaded, built in or installed;
// without lists of them nothing is known.
func TestModules(t *testing.T) {
	const dir = "lib/modules/6.1.0-1/"
	files := map[string]string{
		"proc/sys/kernel/osrelease": "6.1.0-1\n",
		dir + "modules.builtin":     "kernel/net/xfrm/xfrm_user.ko\nkernel/net/netfilter/nf_tables.ko\n",
		dir + "modules.dep": "kernel/net/netfilter/xt_mark.ko.xz:\nkernel/net/netfilter/xt_comment.ko:\nkernel/net/netfilter/xt_conntrack.ko: kernel/x.ko\n" +
			"kernel/net/netfilter/xt_addrtype.ko.zst:\nkernel/net/ipv4/netfilter/ipt_rpfilter.ko:\nkernel/net/ipv6/netfilter/ip6t_rpfilter.ko:\n",
		"sys/module/nft_compat/refcnt": "1",
	}
	if got := root(t, files).Modules("nft"); !slices.Equal(got, []string{"xt_policy"}) {
		t.Errorf("got %v, want xt_policy", got)
	}
	files["sys/module/xt_policy/refcnt"] = "1"
	if got := root(t, files).Modules("nft"); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
	if got := root(t, files).Modules("legacy"); !slices.Equal(got, []string{"iptable_mangle", "iptable_filter", "iptable_nat"}) {
		t.Errorf("got %v, want those of legacy", got)
	}
	delete(files, dir+"modules.dep")
	delete(files, "sys/module/xt_policy/refcnt")
	if got := root(t, files).Modules("nft"); len(got) != 0 {
		t.Errorf("got %v without a list, want none", got)
	}
	// OpenWrt's modules are in one folder, without depmod's list.
	for _, name := range []string{"xt_mark", "xt_comment", "xt_conntrack", "xt_addrtype", "ipt_rpfilter", "ip6t_rpfilter"} {
		files[dir+name+".ko"] = ""
	}
	if got := root(t, files).Modules("nft"); !slices.Equal(got, []string{"xt_policy"}) {
		t.Errorf("got %v from a flat folder, want xt_policy", got)
	}
}

// TestDistribution reads os-release in both of its places, and with each kind of quotes.
func TestDistribution(t *testing.T) {
	const release = "proc/sys/kernel/osrelease"
	tests := []struct {
		name  string
		files map[string]string
		want  doctor.Distribution
	}{
		{"none", nil, doctor.Distribution{}},
		{"Debian", map[string]string{"usr/lib/os-release": "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nID=debian\n", release: "6.12.117+deb13-amd64\n"},
			doctor.Distribution{ID: "debian", Version: "13", Kernel: "6.12.117+deb13-amd64"}},
		{"Rocky", map[string]string{"etc/os-release": "# a comment\n\nID=\"rocky\"\nID_LIKE='rhel centos fedora'\nVERSION_ID=10.2", "usr/lib/os-release": "ID=other\n"},
			doctor.Distribution{ID: "rocky", Like: []string{"rhel", "centos", "fedora"}, Version: "10.2"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, root(t, test.files).Distribution()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSysctl joins the settings of an interface with those of all, as the kernel does.
func TestSysctl(t *testing.T) {
	const v4, v6 = "proc/sys/net/ipv4/conf/", "proc/sys/net/ipv6/conf/"
	s := root(t, map[string]string{
		"proc/sys/net/ipv4/ip_forward": "1\n",
		v4 + "all/rp_filter":           "1", v4 + "eth0/rp_filter": "2", v4 + "eth1/rp_filter": "0",
		v4 + "all/send_redirects": "0", v4 + "eth0/send_redirects": "1",
		v6 + "all/disable_policy": "1", v6 + "eth1/disable_policy": "0", v4 + "eth1/disable_xfrm": "1",
		"proc/sys/net/bridge/bridge-nf-call-iptables": "1\n", "proc/sys/net/bridge/bridge-nf-call-ip6tables": "0\n",
		"sys/class/net/eth1/bridge/nf_call_ip6tables": "1\n",
	}).Sysctl([]xfrm.Link{{Name: "eth0"}, {Name: "eth1"}})
	zero, one := s.Links["eth0"], s.Links["eth1"]
	if !s.Forward4 || s.Forward6 || zero.ReversePath != 2 || one.ReversePath != 1 || !zero.SendRedirects || one.SendRedirects ||
		zero.NoXfrm || !one.NoXfrm || one.NoPolicy6 || !s.BridgeCall4 || s.BridgeCall6 || zero.BridgeCall6 || !one.BridgeCall6 || one.BridgeCall4 {
		t.Errorf("got %+v", s)
	}
}

// TestHooked looks for xfrmfw in the files that the IKE daemon reads, comments aside.
func TestHooked(t *testing.T) {
	const file = "etc/swanctl/conf.d/site.conf"
	if root(t, map[string]string{file: "# updown = /usr/libexec/xfrmfw/updown\n"}).Hooked() {
		t.Error("a comment was taken for the hook")
	}
	if !root(t, map[string]string{file: "connections { a { children { b {\n\tupdown = /usr/libexec/xfrmfw/updown # ours\n"}).Hooked() {
		t.Error("the hook was not found")
	}
}

// TestCounters reads the kernel's format, and this kernel's own file.
func TestCounters(t *testing.T) {
	c, err := root(t, map[string]string{"proc/net/xfrm_stat": "XfrmInError             \t0\nXfrmInNoStates          \t17\n"}).Counters()
	if err != nil || c["XfrmInNoStates"] != 17 || len(c) != 2 {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := root(t, nil).Counters(); err == nil {
		t.Error("no error without the file")
	}
}
