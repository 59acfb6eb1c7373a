package doctor

import (
	"strings"
	"testing"
)

// TestPackages: the remedy for a missing program names the packages of the distribution,
// and stays right where that is not known.
func TestPackages(t *testing.T) {
	openwrt := func(version string) Distribution {
		return Distribution{ID: "openwrt", Like: []string{"lede", "openwrt"}, Version: version, Kernel: "6.6.93"}
	}
	tests := []struct {
		name              string
		host              Distribution
		missing           []string
		modules, programs string
	}{
		{"Debian", Distribution{ID: "debian", Version: "13", Kernel: "6.12.117+deb13-amd64"}, []string{"xt_policy"},
			"apt-get install linux-image-6.12.117+deb13-amd64", "apt-get install iptables"},
		{"Ubuntu", Distribution{ID: "ubuntu", Like: []string{"debian"}, Version: "26.04", Kernel: "7.0.0-14-generic"}, []string{"xt_policy"},
			"apt-get install linux-modules-extra-7.0.0-14-generic", "apt-get install iptables"},
		{"Mint", Distribution{ID: "linuxmint", Like: []string{"ubuntu", "debian"}, Kernel: "6.8.0-45-generic"}, []string{"xt_policy"},
			"apt-get install linux-modules-extra-6.8.0-45-generic", "apt-get install iptables"},
		{"RHEL", Distribution{ID: "rhel", Like: []string{"fedora"}, Version: "10.2", Kernel: "6.12.0-211.el10.x86_64"}, []string{"xt_policy", "nft_compat"},
			"dnf install kernel-modules-extra-6.12.0-211.el10.x86_64", "dnf install iptables-nft"},
		{"Rocky of an unknown kernel", Distribution{ID: "rocky", Like: []string{"rhel", "centos", "fedora"}}, []string{"xt_policy"},
			"dnf install kernel-modules-extra-$(uname -r)", "dnf install iptables-nft"},
		{"Fedora", Distribution{ID: "fedora", Version: "45", Kernel: "7.1.3-200.fc45.x86_64"}, []string{"xt_policy"},
			"dnf install kernel-modules-extra-7.1.3-200.fc45.x86_64", "dnf install iptables-nft"},
		{"openSUSE", Distribution{ID: "opensuse-leap", Like: []string{"suse", "opensuse"}, Version: "16.0"}, []string{"xt_policy"},
			"zypper install kernel-default ", "zypper install iptables"},
		{"OpenWrt with opkg", openwrt("24.10.4"), []string{"xfrm_user", "xt_policy", "ipt_rpfilter", "ip6t_rpfilter", "nft_xfrm"},
			"opkg install iptables-mod-ipsec iptables-mod-rpfilter kmod-ipsec kmod-nft-xfrm", "opkg install iptables-nft ip6tables-nft"},
		{"OpenWrt with apk", openwrt("25.12.0"), []string{"nft_compat"}, "apk add kmod-nft-compat", "apk add iptables-nft"},
		{"OpenWrt's development", openwrt("SNAPSHOT"), []string{"nft_compat"}, "apk add kmod-nft-compat", "apk add iptables-nft"},
		{"Alpine", Distribution{ID: "alpine", Version: "3.24.1"}, []string{"xt_policy"}, "# or install", "apk add iptables"},
		{"Arch", Distribution{ID: "arch"}, []string{"xt_policy"}, "# or install", "pacman -S iptables"},
		{"unknown", Distribution{}, []string{"xt_policy"}, "# or install", "# install iptables"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			found := Examine(with(func(in *Input) { in.Modules, in.Distribution = test.missing, test.host }))
			if len(found) != 1 || found[0].Check != "modules" || !strings.HasPrefix(strings.Join(found[0].Mend, "\n"), test.modules) {
				t.Errorf("found %+v, want one whose remedy begins with %s", found, test.modules)
			}
			if got := test.host.ProgramCommand(); !strings.HasPrefix(got, test.programs) {
				t.Errorf("iptables comes by %q, want %q", got, test.programs)
			}
		})
	}
}

// TestLegacyTables: no package brings the tables of iptables-legacy to a kernel built without them.
func TestLegacyTables(t *testing.T) {
	debian := Distribution{ID: "debian", Kernel: "7.2.13+deb14-amd64"}
	tables := []string{"iptable_mangle", "iptable_filter", "iptable_nat"}
	for _, missing := range [][]string{tables, append([]string{"xt_policy"}, tables...)} {
		found := Examine(with(func(in *Input) { in.Variant, in.Modules, in.Distribution = "legacy", missing, debian }))
		if len(found) != 1 || !strings.Contains(found[0].Mend[0], "let iptables be iptables-nft") {
			t.Fatalf("without %v: %+v", missing, found)
		}
		if packages := strings.Contains(strings.Join(found[0].Mend, "\n"), "linux-image-7.2.13+deb14-amd64"); packages != (missing[0] == "xt_policy") {
			t.Errorf("without %v: %+v", missing, found[0].Mend)
		}
	}
}
