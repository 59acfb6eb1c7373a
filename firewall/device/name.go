package device

import (
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// MaxName is the length of the longest name of an interface, in bytes
// (IFNAMSIZ, linux/if.h).
const MaxName = 15

// SafeName reports whether rules can name an interface. The kernel lets a
// name hold quotes, which would end the word.
func SafeName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !SafeByte(c) && (c != '@' && c != '+' || i == 0) || i == 0 && c == '-' || c == '/' {
			return false
		}
	}
	return name != "" && len(name) <= MaxName
}

// SafeByte reports whether a byte stands for itself in a word of iptables-restore,
// unquoted.
func SafeByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '_' || c == '.' || c == ':' || c == '=' || c == '/' || c == '-'
}

// WithoutUnnameable returns the host without the links that no rule can name,
// so that one odd name does not keep all rules from being applied. iptables takes
// a name with a trailing "+" for a pattern.
func WithoutUnnameable(host xfrm.Host) (xfrm.Host, []string) {
	var warnings []string
	var links []xfrm.Link
	for _, l := range host.Links {
		if SafeName(l.Name) && !strings.HasSuffix(l.Name, "+") {
			links = append(links, l)
			continue
		}
		warnings = append(warnings, fmt.Sprintf("interface %q has a name that iptables can't be told, so no rule names it: rename it with ip link set dev", l.Name))
	}
	host.Links = links
	return host, warnings
}
