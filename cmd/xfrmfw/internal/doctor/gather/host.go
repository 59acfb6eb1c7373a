// Package gather reads the input of package doctor from the host. It changes
// nothing.
package gather

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Host is the place that is read: "/" but in tests.
type Host struct{ Root string }

func (h Host) path(parts ...string) string {
	return filepath.Join(append([]string{h.Root}, parts...)...)
}

// number reads a number from a file, 0 from a missing one.
func (h Host) number(path ...string) int {
	b, err := os.ReadFile(h.path(path...))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// Sysctl reads the settings of the interfaces. A missing one is taken to be off.
func (h Host) Sysctl(links []xfrm.Link) doctor.Sysctl {
	number := func(name string) int { return h.number("/proc/sys/net", name) }
	s := doctor.Sysctl{
		Forward4: number("ipv4/ip_forward") > 0, Forward6: number("ipv6/conf/all/forwarding") > 0,
		BridgeCall4: number("bridge/bridge-nf-call-iptables") > 0, BridgeCall6: number("bridge/bridge-nf-call-ip6tables") > 0,
		Links: make(map[string]doctor.LinkSysctl, len(links)),
	}
	// The kernel takes the greater of all's rp_filter and the interface's, and
	// either of the others (IN_DEV_MAXCONF, IN_DEV_ORCONF).
	of := func(family, name, setting string) int {
		return max(number(family+"/conf/all/"+setting), number(family+"/conf/"+name+"/"+setting))
	}
	// These hold where both all and the interface have them (IN_DEV_ANDCONF, seg6_enabled's
	// minimum).
	sources, segments := number("ipv4/conf/all/accept_source_route") > 0, number("ipv6/conf/all/seg6_enabled") > 0
	for _, l := range links {
		s.Links[l.Name] = doctor.LinkSysctl{
			SourceRoute: sources && number("ipv4/conf/"+l.Name+"/accept_source_route") > 0,
			Segments:    segments && number("ipv6/conf/"+l.Name+"/seg6_enabled") > 0,
			ReversePath: of("ipv4", l.Name, "rp_filter"), NoPolicy: of("ipv4", l.Name, "disable_policy") > 0,
			// IPv6 looks at the interface alone (ip6_rt_info_create).
			NoPolicy6: number("ipv6/conf/"+l.Name+"/disable_policy") > 0, NoXfrm: of("ipv4", l.Name, "disable_xfrm") > 0,
			SendRedirects: of("ipv4", l.Name, "send_redirects") > 0,
			BridgeCall4:   h.number("/sys/class/net", l.Name, "bridge/nf_call_iptables") > 0, BridgeCall6: h.number("/sys/class/net", l.Name, "bridge/nf_call_ip6tables") > 0,
		}
	}
	return s
}

// Detours reads the settings by which packets name their own way, and those alone.
func (h Host) Detours(links []xfrm.Link) doctor.Sysctl {
	for _, all := range []string{"ipv4/conf/all/accept_source_route", "ipv6/conf/all/seg6_enabled"} {
		if b, err := os.ReadFile(h.path("/proc/sys/net", all)); err == nil && strings.TrimSpace(string(b)) != "0" {
			return h.Sysctl(links)
		}
	}
	return doctor.Sysctl{}
}

// HasFlowtables reports whether the kernel's part for flowtables is loaded, which it is
// where there is one.
func (h Host) HasFlowtables() bool {
	_, err := os.Stat(h.path("/sys/module/nf_flow_table"))
	return err == nil
}

// Stroke reports whether connections of strongSwan are in ipsec.conf.
func (h Host) Stroke() bool {
	for _, pid := range []string{"/run/charon.ctl", "/var/run/charon.ctl"} {
		if _, err := os.Stat(h.path(pid)); err == nil {
			return true
		}
	}
	return false
}

// Counters reads the error counters of IPsec.
func (h Host) Counters() (map[string]uint64, error) {
	b, err := os.ReadFile(h.path("/proc/net/xfrm_stat"))
	if err != nil {
		return nil, fmt.Errorf("read xfrm counters: %w", err)
	}
	counters := make(map[string]uint64)
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) != 2 {
			continue
		}
		n, err := strconv.ParseUint(words[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read xfrm counters: line %q: %w", strings.TrimSpace(line), err)
		}
		counters[words[0]] = n
	}
	return counters, nil
}

// Modules lists the modules that the rules need and that the running kernel lacks: not
// loaded, not built in and not installed. It is empty where the kernel's list of modules
// is missing, as in a container.
func (h Host) Modules(variant string) []string {
	dir := h.path("/lib/modules", h.release())
	installed, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if errors.Is(err, fs.ErrNotExist) {
		// OpenWrt has no depmod, and all modules in one folder.
		files, _ := filepath.Glob(filepath.Join(dir, "*.ko"))
		if len(files) == 0 {
			return nil
		}
		installed, err = []byte(strings.Join(files, "\n")), nil
	}
	if err != nil {
		return nil
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil
	}
	needed := []string{"xfrm_user", "xt_policy", "xt_mark", "xt_comment", "xt_conntrack", "xt_addrtype", "ipt_rpfilter", "ip6t_rpfilter"}
	if variant == "nft" {
		needed = append(needed, "nf_tables", "nft_compat")
	} else {
		needed = append(needed, "iptable_mangle", "iptable_filter", "iptable_nat")
	}
	return slices.DeleteFunc(needed, func(name string) bool {
		file := []byte("/" + name + ".ko")
		_, err := os.Stat(h.path("/sys/module", name))
		return err == nil || bytes.Contains(installed, file) || bytes.Contains(builtin, file)
	})
}

// release is the release of the running kernel, empty if it can't be read.
func (h Host) release() string {
	b, err := os.ReadFile(h.path("/proc/sys/kernel/osrelease"))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// Distribution reads os-release(5), in both of its places. A line that does not parse
// is not known.
func (h Host) Distribution() doctor.Distribution {
	d := doctor.Distribution{Kernel: h.release()}
	b, err := os.ReadFile(h.path("/etc/os-release"))
	if err != nil {
		b, _ = os.ReadFile(h.path("/usr/lib/os-release"))
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch name {
		case "ID":
			d.ID = value
		case "ID_LIKE":
			d.Like = strings.Fields(value)
		case "VERSION_ID":
			d.Version = value
		}
	}
	return d
}

// The bits of the capabilities that are needed (linux/capability.h).
const (
	netAdmin = 12
	netRaw   = 13
)

// Capabilities lists those that this process lacks: iptables-legacy opens a raw
// socket, and with that wants one more.
func (h Host) Capabilities(variant string) []string {
	f, err := os.Open(h.path("/proc/self/status"))
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		word, ok := strings.CutPrefix(lines.Text(), "CapEff:")
		if !ok {
			continue
		}
		have, err := strconv.ParseUint(strings.TrimSpace(word), 16, 64)
		if err != nil {
			return nil
		}
		var missing []string
		if have&(1<<netAdmin) == 0 {
			missing = append(missing, "CAP_NET_ADMIN")
		}
		if variant == "legacy" && have&(1<<netRaw) == 0 {
			missing = append(missing, "CAP_NET_RAW")
		}
		return missing
	}
	return nil
}

// IKE names an IKE daemon that runs in this network namespace.
func (h Host) IKE() string {
	here, err := os.Readlink(h.path("/proc/self/ns/net"))
	if err != nil {
		return ""
	}
	processes, _ := filepath.Glob(h.path("/proc/[0-9]*"))
	for _, p := range processes {
		comm, err := os.ReadFile(filepath.Join(p, "comm"))
		if err != nil {
			continue
		}
		name := strings.TrimSpace(string(comm))
		if !slices.Contains([]string{"charon", "charon-systemd", "pluto", "iked", "racoon"}, name) {
			continue
		}
		if there, err := os.Readlink(filepath.Join(p, "ns/net")); err == nil && there == here {
			return name
		}
	}
	return ""
}

// Hooked reports whether a configuration of an IKE daemon names xfrmfw.
func (h Host) Hooked() bool {
	for _, pattern := range []string{
		"/etc/swanctl/*.conf", "/etc/swanctl/conf.d/*.conf", "/etc/ipsec.conf", "/etc/ipsec.d/*.conf", "/etc/strongswan.conf",
		"/etc/strongswan.d/*.conf", "/etc/strongswan.d/*/*.conf",
	} {
		files, _ := filepath.Glob(h.path(pattern))
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(b)) {
				if line, _, _ = strings.Cut(line, "#"); strings.Contains(line, "xfrmfw") {
					return true
				}
			}
		}
	}
	return false
}
