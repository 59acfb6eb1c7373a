package doctor

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Distribution is the host's distribution, as far as package names depend on it.
// Empty fields are not known.
type Distribution struct {
	// ID, Like and Version are ID, ID_LIKE and VERSION_ID of os-release(5).
	ID      string
	Like    []string
	Version string
	// Kernel is the release of the running kernel, as uname -r prints it.
	Kernel string
}

// is reports whether the host is a distribution or derived from it.
func (d Distribution) is(id string) bool { return d.ID == id || slices.Contains(d.Like, id) }

// major is the first number of the version, 0 where it has none.
func (d Distribution) major() int {
	first, _, _ := strings.Cut(d.Version, ".")
	n, _ := strconv.Atoi(first)
	return n
}

// openWrtPackages are the packages of OpenWrt that have the modules. Each
// module is a package of its own there, and an extension of iptables comes with
// its module in another.
var openWrtPackages = map[string]string{
	"xfrm_user":     "kmod-ipsec",
	"nft_xfrm":      "kmod-nft-xfrm",
	"nft_compat":    "kmod-nft-compat",
	"nf_tables":     "kmod-nft-core",
	"xt_policy":     "iptables-mod-ipsec",
	"xt_conntrack":  "kmod-ipt-conntrack",
	"xt_addrtype":   "iptables-mod-extra",
	"ipt_rpfilter":  "iptables-mod-rpfilter",
	"ip6t_rpfilter": "iptables-mod-rpfilter",
	"xt_mark":       "kmod-ipt-core",
	"xt_comment":    "kmod-ipt-core",
}

// moduleCommand is the command that installs modules of the running kernel, or
// empty where the packages are not known.
func (d Distribution) moduleCommand(modules []string) string {
	kernel := "-" + cmp.Or(d.Kernel, "$(uname -r)")
	switch {
	case d.is("openwrt"):
		var packages []string
		for _, m := range modules {
			if p := openWrtPackages[m]; p != "" {
				packages = append(packages, p)
			}
		}
		slices.Sort(packages)
		if packages = slices.Compact(packages); len(packages) == 0 {
			return ""
		}
		return d.installer() + " " + strings.Join(packages, " ")
	case d.is("ubuntu"):
		return "apt-get install linux-modules-extra" + kernel
	case d.is("debian"):
		return "apt-get install linux-image" + kernel
	case d.is("fedora"), d.is("rhel"), d.is("centos"):
		// RHEL 10.2 moved the modules of iptables into this package.
		return "dnf install kernel-modules-extra" + kernel
	case d.is("suse"), d.is("opensuse"):
		return "zypper install kernel-default    # kernel-default-base has fewer modules"
	}
	return ""
}

// ProgramCommand is the command that installs iptables.
func (d Distribution) ProgramCommand() string {
	switch {
	case d.is("openwrt"):
		return d.installer() + " iptables-nft ip6tables-nft iptables-mod-ipsec iptables-mod-extra iptables-mod-rpfilter"
	case d.is("fedora"), d.is("rhel"), d.is("centos"):
		return d.installer() + " iptables-nft"
	}
	if d.installer() == "" {
		return "# install iptables, by which name the distribution has it"
	}
	return d.installer() + " iptables"
}

// installer is the command that packages are installed with, or empty where it
// is not known.
func (d Distribution) installer() string {
	switch {
	case d.is("openwrt"):
		if d.major() >= 25 || strings.Contains(d.Version, "SNAPSHOT") {
			return "apk add"
		}
		return "opkg install"
	case d.is("debian"):
		return "apt-get install"
	case d.is("fedora"), d.is("rhel"), d.is("centos"):
		return "dnf install"
	case d.is("suse"), d.is("opensuse"):
		return "zypper install"
	case d.is("alpine"):
		return "apk add"
	case d.is("arch"):
		return "pacman -S"
	}
	return ""
}
