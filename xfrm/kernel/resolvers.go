package kernel

import (
	"net/netip"
	"os"
	"strings"
)

// resolvers appends the name servers of /etc/resolv.conf; without the file there
// are none.
func (r *Reader) resolvers(found []netip.Addr) []netip.Addr {
	text, err := os.ReadFile(r.path("/etc/resolv.conf"))
	if err != nil {
		return found
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil && !a.IsLoopback() {
			found = append(found, a.Unmap().WithZone(""))
		}
	}
	return found
}
