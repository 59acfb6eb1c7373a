package iptables

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The faults of an iptables program, each with its remedy.
var (
	// ErrPermission is a lack of rights.
	ErrPermission = errors.New("not permitted: run as root, or with CAP_NET_ADMIN and, for the legacy variant, CAP_NET_RAW; where root lacks them, a container, the sandbox of a service, SELinux or AppArmor denies them: see \"xfrmfw doctor\"")
	// ErrUnsupported is a table, match or target that kernel or iptables lack.
	ErrUnsupported = errors.New("the kernel or iptables lacks a table, match or target: see which modules \"modprobe -a ip_tables ip6_tables nf_tables nft_compat xt_policy xt_mark xt_comment xt_conntrack\" can load, or use the other variant")
	// ErrLocked is a lock that another program held for too long.
	ErrLocked = errors.New("another program holds the xtables lock: see which with \"fuser -v /run/xtables.lock\", and try again")
	// ErrLockFile is a lock file that can't be opened.
	ErrLockFile = errors.New("the xtables lock file can't be opened: make /run/xtables.lock writable, or name another in XTABLES_LOCKFILE")
	// ErrTooLong is a commit that does not fit the netlink socket of iptables-nft,
	// with a buffer that only root of the first user namespace may enlarge.
	ErrTooLong = errors.New("the commit is larger than this user's netlink socket takes: raise net.core.wmem_max, as by \"sysctl -w net.core.wmem_max=67108864\", or run as root outside of a user namespace")
	// ErrChanged says that the live rules have changed since they were read:
	// read again, plan again, try again.
	ErrChanged = errors.New("the live rules have changed since they were read: try again")
)

// A NotFoundError says that the host has no such program.
type NotFoundError struct {
	// Names are the programs that would do; each needs its -save and -restore.
	Names, Dirs []string
	// Tried names the programs that were found instead.
	Tried []string
}

// Error names the program and how to get it.
func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("find %s with -save and -restore in %s: not found", strings.Join(e.Names, " or "), strings.Join(e.Dirs, ":"))
	if len(e.Tried) > 0 {
		s += " (" + strings.Join(e.Tried, ", ") + ")"
	}
	return s + ": install it, e.g. \"apt-get install iptables\""
}

// A RestoreError is a commit that was refused: nothing of it took effect, unless
// the program was killed.
type RestoreError struct {
	Family xfrm.Family
	Table  rules.Table
	// Line and Text are the line at fault of the text that was sent; 0 if not known.
	Line int
	Text string
	// Guessed says that the program named only the commit, and that Line is the
	// first that uses a match or target which the kernel has not.
	Guessed bool
	Stderr  string
	// Err is one of this package's errors where it could be told, or the
	// program's exit.
	Err error
}

// Error names the family, table and line, the program's message and the remedy.
func (e *RestoreError) Error() string {
	s := fmt.Sprintf("restore %s (%s): ", e.Table, e.Family)
	if e.Line > 0 {
		word := "line"
		if e.Guessed {
			word = "probably line"
		}
		s += fmt.Sprintf("%s %d: %s: ", word, e.Line, e.Text)
	}
	if said := gist(e.Stderr); said != "" {
		s += said + ": "
	}
	return s + e.Err.Error()
}

// Unwrap returns Err.
func (e *RestoreError) Unwrap() error { return e.Err }

// gist is the first line of a message that says something.
func gist(stderr string) string {
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if i := strings.Index(line, "): "); i >= 0 && strings.Contains(line[:i], " v1.") {
			line = line[i+3:]
		}
		if line != "" && !strings.HasSuffix(line, "(nf_tables):") && !strings.HasSuffix(line, "(legacy):") {
			return line
		}
	}
	return ""
}

// classify maps a program's message to an error; err is kept if it can't be
// told.
func classify(err error, stderr string) error {
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(stderr, p) {
				return true
			}
		}
		return false
	}
	var kind error
	switch {
	case errors.Is(err, errKilled):
	case has("Message too long"):
		kind = ErrTooLong
	case has("holding the xtables lock"):
		kind = ErrLocked
	case has("can't open lock file"):
		kind = ErrLockFile
	case has("Permission denied", "you must be root", "Operation not permitted"):
		kind = ErrPermission
	case has("nitialize table", "initialize iptables table", "initialize ip6tables table"):
		// Legacy prints the same without the right and without the table.
		kind = ErrUnsupported
		if !capable() {
			kind = ErrPermission
		}
	case has("Couldn't load", "missing kernel module", "Failed to initialize nft", "Protocol not supported", "Operation not supported"):
		kind = ErrUnsupported
	case has("does a matching rule exist", "RULE_DELETE failed", "CHAIN_DEL failed", "Resource temporarily unavailable", "Interrupted system call should be restarted"):
		kind = ErrChanged
	}
	if kind == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", kind, err)
}

// capable reports whether this process has CAP_NET_ADMIN and CAP_NET_RAW.
func capable() bool {
	const netAdmin, netRaw = 12, 13
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return os.Geteuid() == 0
	}
	m := regexp.MustCompile(`(?m)^CapEff:\s*([0-9a-f]+)$`).FindSubmatch(status)
	if m == nil {
		return os.Geteuid() == 0
	}
	caps, err := strconv.ParseUint(string(m[1]), 16, 64)
	const both = 1<<netAdmin | 1<<netRaw
	return err == nil && caps&both == both
}
