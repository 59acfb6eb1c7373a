package kernel

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// offloads are the modules that decrypt ESP before iptables sees it, each with
// one of its functions. They act on all states once they are there.
var offloads = [...]struct{ module, symbol string }{
	{"esp4_offload", "esp4_gro_receive"},
	{"esp6_offload", "esp6_gro_receive"},
}

// found is an answer for each of offloads.
type found [len(offloads)]bool

// readOffloads finds out which offloads are at work and whether there is IPv6.
func (r *Reader) readOffloads(h *xfrm.Host) {
	// A built-in module without parameters has no directory in /sys/module. The
	// image does not change while we run, so one look is enough.
	if r.builtin == nil {
		b := r.findBuiltin()
		r.builtin = &b
	}
	there := *r.builtin
	for i, o := range offloads {
		there[i] = there[i] || r.exists("/sys/module/"+o.module)
	}
	h.ESP4Offload, h.ESP6Offload = there[0], there[1]
	h.NoIPv6 = r.noIPv6()
}

// OffloadModules names the offload modules that are loaded now, in one string.
// No event tells of one: the caller asks again, which costs little.
func OffloadModules() string {
	var r Reader
	names := ""
	for _, o := range offloads {
		if r.exists("/sys/module/" + o.module) {
			names += o.module + " "
		}
	}
	return names
}

// findBuiltin looks in the list of built-in modules, and where there is none, as
// in a container, for the functions in the kernel's symbols (some 40 ms).
func (r *Reader) findBuiltin() found {
	var list, symbols [len(offloads)]string
	for i, o := range offloads {
		list[i] = "/" + o.module + ".ko"
		symbols[i] = " " + o.symbol
	}
	if release, err := os.ReadFile(r.path("/proc/sys/kernel/osrelease")); err == nil {
		f, err := linesEnd(r.path("/lib/modules/"+string(bytes.TrimSpace(release))+"/modules.builtin"), list)
		if !errors.Is(err, fs.ErrNotExist) {
			return f
		}
	}
	f, _ := linesEnd(r.path("/proc/kallsyms"), symbols)
	return f
}

// linesEnd reports for each end whether a line of the file has it.
func linesEnd(path string, ends [len(offloads)]string) (f found, err error) {
	file, err := os.Open(path)
	if err != nil {
		return f, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 64<<10), 64<<10)
	for lines.Scan() {
		for i, end := range ends {
			f[i] = f[i] || bytes.HasSuffix(lines.Bytes(), []byte(end))
		}
	}
	return f, lines.Err()
}

func (r *Reader) exists(path string) bool {
	_, err := os.Stat(r.path(path))
	return err == nil
}

func (r *Reader) path(path string) string { return filepath.Join(r.root, path) }
