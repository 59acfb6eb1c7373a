package firewall

// MaxInterfaceName is the length of the longest name of an interface, in bytes
// (IFNAMSIZ, linux/if.h).
const MaxInterfaceName = 15

// SafeInterface reports whether rules can name an interface. The kernel lets a
// name hold quotes, which would end the word.
func SafeInterface(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !SafeByte(c) && (c != '@' && c != '+' || i == 0) || i == 0 && c == '-' || c == '/' {
			return false
		}
	}
	return name != "" && len(name) <= MaxInterfaceName
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
