// Package listen says where a service of this host's own may be offered: on a
// Unix socket, or on a loopback address, and nowhere else.
package listen

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// An Address is where to listen, as net.Listen takes it. The zero value is
// nowhere.
type Address struct {
	// Network is "unix" or "tcp".
	Network string
	// Path is the socket's path, or the loopback address with its port.
	Path string
}

// maxPath is the size of the path in sockaddr_un, with the byte that ends it.
const maxPath = 107

// Parse reads "unix:/run/xfrmfw-metrics/metrics.sock", "127.0.0.1:9863" or
// "[::1]:9863". Names are refused, localhost too: their addresses are for
// others to say, and may change.
func Parse(text string) (Address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return unix(path)
	}
	at, err := netip.ParseAddrPort(text)
	switch {
	case err != nil || at.Addr().Zone() != "":
		return Address{}, errors.New("write unix:/run/xfrmfw-metrics/metrics.sock, 127.0.0.1:9863 or [::1]:9863")
	case at.Port() == 0:
		return Address{}, errors.New("port 0 would be another one at each start: name one, such as 9863")
	case !at.Addr().Unmap().IsLoopback():
		return Address{}, fmt.Errorf("%s is not a loopback address, and metrics name your peers: listen on 127.0.0.1, [::1] or unix:/run/xfrmfw-metrics/metrics.sock, and let a proxy with a login serve others", at.Addr())
	}
	return Address{Network: "tcp", Path: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String()}, nil
}

func unix(path string) (Address, error) {
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/":
		return Address{}, errors.New("the path of a socket is absolute and plain: write unix:/run/xfrmfw-metrics/metrics.sock")
	case len(path) > maxPath:
		return Address{}, fmt.Errorf("the path of a socket has at most %d bytes: write a shorter one", maxPath)
	case strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }):
		return Address{}, errors.New("the path of a socket holds no control characters: write unix:/run/xfrmfw-metrics/metrics.sock")
	}
	return Address{Network: "unix", Path: path}, nil
}

// String is the text that Parse reads.
func (a Address) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Path
	}
	return a.Path
}
