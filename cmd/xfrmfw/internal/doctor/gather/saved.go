package gather

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
)

// rulesetFiles are those that the services of nftables load at boot: of Debian and Arch,
// of Fedora and RHEL, of Alpine, and of OpenWrt.
var rulesetFiles = []string{
	"/etc/nftables.conf", "/etc/sysconfig/nftables.conf", "/etc/nftables.nft", "/etc/nftables.d/*.nft", "/etc/nftables/*.nft",
}

// The names of our chains and of our table in a listing of nft.
var (
	savedChain = regexp.MustCompile(`(?m)^[ \t]*chain XFRMFW-`)
	savedTable = regexp.MustCompile(`(?m)^[ \t]*table (?:ip|ip6|inet|netdev) xfrmfw\b`)
)

// savedLimit is how much of a file is read.
const savedLimit = 16 << 20

// Saved reads the files that nftables loads at boot, and returns those with rules of ours.
func (h Host) Saved() []doctor.Saved {
	var found []doctor.Saved
	for _, pattern := range rulesetFiles {
		files, _ := filepath.Glob(h.path(pattern))
		slices.Sort(files)
		for _, file := range files {
			text := regularFile(file)
			s := doctor.Saved{File: "/" + relative(h.Root, file), Chains: savedChain.Match(text), Table: savedTable.Match(text)}
			if s.Chains || s.Table {
				found = append(found, s)
			}
		}
	}
	return found
}

// relative is the path of a file below a folder.
func relative(root, file string) string {
	path, err := filepath.Rel(root, file)
	if err != nil {
		return file
	}
	return path
}

// regularFile reads a file, or nothing where it is no regular one: a FIFO would never end.
func regularFile(path string) []byte {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(f, savedLimit))
	return text
}
