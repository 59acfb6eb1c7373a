package iptables

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goiptables "github.com/coreos/go-iptables/iptables"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Variant is one of the two implementations of iptables. Their rules stand side
// by side in the kernel, and neither lists those of the other.
type Variant string

// The variants.
const (
	NFT    Variant = "nft"
	Legacy Variant = "legacy"
)

func (v Variant) other() Variant {
	if v == NFT {
		return Legacy
	}
	return NFT
}

// Options says which programs to use, and how. The zero value is the host's
// default variant for both families.
type Options struct {
	// Variant forces one; empty is that of the host's iptables.
	Variant Variant
	// Families are those wanted; nil is both.
	Families []xfrm.Family
	// Wait is how long to wait for the lock that legacy programs share, 10 s by
	// default; Timeout is when a program that prints nothing is killed, 2 minutes
	// by default, later if it restores much.
	Wait, Timeout time.Duration
	// Dirs is where programs are looked for. PATH is not asked: a hook runs
	// with that of the IKE daemon.
	Dirs []string
}

// Programs are the iptables programs of one variant.
type Programs struct {
	variant  Variant
	version  string
	families map[xfrm.Family]program
	options  Options
	run      runner
	started  *processes
	// kernelLacks asks the kernel, and support is its answer and the programs'.
	kernelLacks func(Variant, xfrm.Family) rules.Features
	support     support
}

// program is the program of one family: the command, its siblings, and the
// command as go-iptables probes it when it is first wanted, since that runs it.
type program struct {
	command, save, restore string
	probed                 func() (*goiptables.IPTables, error)
}

// minVersion is the first with -w in iptables-restore (1.6.2).
var minVersion = []int{1, 6, 2}

// Find looks for the programs of all wanted families and probes them. The error
// is a *NotFoundError if a program is missing; a caller that can do without IPv6
// asks again without it.
func Find(ctx context.Context, o Options) (*Programs, error) {
	if len(o.Families) == 0 {
		o.Families = []xfrm.Family{xfrm.IPv4, xfrm.IPv6}
	}
	if o.Wait <= 0 {
		o.Wait = 10 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Dirs == nil {
		o.Dirs = []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin", "/run/current-system/sw/bin"}
	}
	started := new(processes)
	p := &Programs{variant: o.Variant, families: make(map[xfrm.Family]program), options: o, run: started.runProgram, started: started,
		kernelLacks: kernelLacks}
	for _, family := range o.Families {
		found, err := p.find(ctx, family, p.variant)
		if err != nil {
			return nil, err
		}
		p.families[family] = found
	}
	return p, nil
}

// Variant is the variant in use.
func (p *Programs) Variant() Variant { return p.variant }

// Version is the version that the first program prints.
func (p *Programs) Version() string { return p.version }

// Ran reports whether a process was one of the last 64 that this value started,
// for a caller that learned of a change by another process.
func (p *Programs) Ran(pid int) bool { return p.started.has(pid) }

// Families are those with programs on this host, IPv4 first.
func (p *Programs) Families() []xfrm.Family {
	var families []xfrm.Family
	for _, f := range [...]xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		if _, ok := p.families[f]; ok {
			families = append(families, f)
		}
	}
	return families
}

// find looks for the programs of one family. The first family found decides on
// the variant, so that no host is half in each: the alternatives of iptables and
// ip6tables can be set apart.
func (p *Programs) find(ctx context.Context, family xfrm.Family, variant Variant) (program, error) {
	base := commandOf(family)
	names := []string{base}
	if variant != "" {
		names = []string{base + "-" + string(variant), base}
	}
	var tried []string
	for _, name := range names {
		for _, dir := range p.options.Dirs {
			path := filepath.Join(dir, name)
			if !executable(path) || !executable(path+"-save") || !executable(path+"-restore") {
				continue
			}
			found := program{path, path + "-save", path + "-restore", sync.OnceValues(func() (*goiptables.IPTables, error) {
				return probe(path, family, p.options.Wait)
			})}
			if p.version != "" && name != base {
				// The name is the variant's own, and a sibling of the program that was asked is
				// of the same package. Each question is a process to start.
				return found, nil
			}
			version, err := p.askVersion(ctx, path)
			if err != nil {
				return program{}, err
			}
			if is := variantOf(version); variant != "" && is != variant {
				tried = append(tried, path+" is of the "+string(is)+" variant")
				continue
			}
			if p.version == "" {
				p.version, p.variant = version, variantOf(version)
			}
			return found, nil
		}
	}
	return program{}, &NotFoundError{Names: names, Dirs: p.options.Dirs, Tried: tried}
}

func commandOf(family xfrm.Family) string {
	if family == xfrm.IPv6 {
		return "ip6tables"
	}
	return "iptables"
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func (p *Programs) askVersion(ctx context.Context, path string) (string, error) {
	out, stderr, err := p.output(ctx, p.options.Timeout, "", path, "--version")
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", path, classify(err, stderr))
	}
	version := strings.TrimSpace(string(out))
	if numbers := versionNumbers(version); slices.Compare(numbers, minVersion) < 0 {
		return "", fmt.Errorf("ask %s for its version: %q is older than 1.6.2, whose iptables-restore knows the lock: update iptables", path, version)
	}
	return version, nil
}

// versionNumbers reads "iptables v1.8.9 (nf_tables)". A text without a version is older than any.
func versionNumbers(version string) []int {
	_, rest, _ := strings.Cut(version, " v")
	text, _, _ := strings.Cut(rest, " ")
	var numbers []int
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// variantOf reads "iptables v1.8.9 (nf_tables)"; before 1.8 there was only legacy.
func variantOf(version string) Variant {
	if strings.Contains(version, "(nf_tables)") {
		return NFT
	}
	return Legacy
}

func probe(path string, family xfrm.Family, wait time.Duration) (*goiptables.IPTables, error) {
	proto := goiptables.ProtocolIPv4
	if family == xfrm.IPv6 {
		proto = goiptables.ProtocolIPv6
	}
	probed, err := goiptables.New(goiptables.IPFamily(proto), goiptables.Path(path), goiptables.Timeout(seconds(wait)))
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", path, err)
	}
	return probed, nil
}

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
