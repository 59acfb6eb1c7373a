// Package gateway reads one host and plans its rules: it brings together the
// configuration, the kernel's states and policies, the live rules, the memory and the
// records of the updown hook, and returns them as a Look. A Gateway holds no
// result: only its configuration, its programs, and caches that make the next Look
// cheaper. It commits a Look when package reconcile says so.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/approved"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/memory"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/firewall/nftables"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/ahead"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/follow"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// Options say which gateway is opened.
type Options struct {
	rundir.Dirs
	// Config is the path of the configuration. If Explicit is true the file has to exist.
	Config   string
	Explicit bool
	// Trust says which configuration counts if that of the file is not confirmed.
	Trust Trust
	// Variant selects the iptables programs; empty is the host's default.
	Variant iptables.Variant
	// Engine is used in place of the configuration's; empty is that one.
	Engine engine.Name
	// Snapshot is the path of a snapshot that replaces the kernel; live rules are then
	// taken to be none, and no program is needed. Empty is the kernel.
	Snapshot string
}

// Gateway is a host with states, policies and rules that are read again and again. It is not
// for concurrent use.
type Gateway struct {
	options Options
	config  config.Config
	// text is that of the configuration. refused is true if the file's own was not
	// confirmed, and text is an older one.
	text     approved.Text
	refused  bool
	engine   engine.Engine
	programs *iptables.Programs // nil with a snapshot, and without any installed
	table    *table             // nil with a snapshot
	// looked is true once the kernel was asked for the features that the companion needs.
	looked bool
	memory memory.Store
	peers  *peers.Store // nil with a snapshot

	// The caches.
	reader   kernel.Reader
	compiler compile.Compiler
	tracker  plan.Tracker
	tested   tested
	// compiledOnce is true once the compiler has filled its cache.
	compiledOnce bool
	// lacks are the features that kernel and programs are known to lack, by family.
	lacks map[xfrm.Family]rules.Features
	// world and follower are the last look that is in force and the kernel's changes since,
	// nil if there is none. made has what Ahead put in force.
	world    *ahead.World
	follower *follow.Follower
	made     []sets.Change
	madeFor  []kernel.Pair
	// remembered are the pairs of the memory as it was saved last.
	remembered []guard.Guard
	// commits is true if changes are committed, so that a refusal tells the features that programs
	// lack, which else is asked.
	commits bool
}

// Open reads the configuration first, so that a bad one is reported before anything else
// is looked at, and then finds the iptables programs. The error is a *config.Error for a
// mistake in the configuration, an *iptables.NotFoundError without programs where they
// are needed.
func Open(ctx context.Context, o Options) (*Gateway, error) {
	return OpenWith(ctx, o, iptables.Options{})
}

// OpenWith is Open with the programs run in a given way; variant and families are set
// from the options and the host.
func OpenWith(ctx context.Context, o Options, run iptables.Options) (*Gateway, error) {
	g, err := OpenWithoutPrograms(o)
	if err != nil || o.Snapshot != "" {
		return g, err
	}
	run.Variant = o.Variant
	run.Families = []xfrm.Family{xfrm.IPv4, xfrm.IPv6}
	if kernel.NoIPv6() {
		run.Families = run.Families[:1]
	}
	if g.programs, err = iptables.Find(ctx, run); err != nil && g.needsPrograms() {
		return nil, g.explainMissing(err)
	}
	return g, nil
}

// explainMissing adds to the error of a host without iptables whether the other engine
// can do without.
func (g *Gateway) explainMissing(err error) error {
	var missing *iptables.NotFoundError
	if !errors.As(err, &missing) {
		return fmt.Errorf("find iptables: %w", err)
	}
	if g.engine.Name() == engine.NFTables {
		return fmt.Errorf("%w, or set accept: none in the configuration", err)
	}
	lacks := g.table.open()
	if lacks == nil {
		lacks = g.table.find()
	}
	switch {
	case lacks == nil:
		return fmt.Errorf("%w, or take the engine that needs no iptables: engine: nftables in the configuration", err)
	case errors.Is(lacks, nftables.ErrPermission):
		return err
	}
	return fmt.Errorf("%w; the other engine, nftables, can't replace it: %w", err, lacks)
}

// setEngine makes the engine of the options and the configuration.
func (g *Gateway) setEngine(companion bool) {
	g.engine = engine.New(cmp.Or(g.options.Engine, g.config.Engine), engine.Options{Accept: g.config.Accept, Companion: companion})
	g.compiler.Layout = g.engine.Rules
}

// needsPrograms reports whether nothing can be done without the iptables programs.
func (g *Gateway) needsPrograms() bool {
	return g.engine.Name() == engine.IPTables || g.config.Accept == engine.AcceptIPTables
}

// OpenWithoutPrograms is Open for a host without iptables: its live rules can't be read.
func OpenWithoutPrograms(o Options) (*Gateway, error) {
	g := &Gateway{options: o}
	if err := g.loadConfig(); err != nil {
		return nil, err
	}
	g.setEngine(o.Snapshot != "") // a snapshot has no nf_tables
	if o.Snapshot != "" {
		return g, nil
	}
	g.table = new(table)
	return g, g.openStores()
}

// openStores opens the memory and the records of the updown hook.
func (g *Gateway) openStores() (err error) {
	if g.memory, err = memory.In(g.options.Dirs); err != nil {
		return err
	}
	g.peers, err = openPeers(g.options.Dirs)
	return err
}

func openPeers(dirs rundir.Dirs) (*peers.Store, error) {
	dir, err := dirs.Peers()
	if err != nil {
		return nil, err
	}
	return peers.In(dir), nil
}

// Fork returns a gateway with the same configuration and programs and with caches of its
// own, so that the two may be used at the same time.
func (g *Gateway) Fork() (*Gateway, error) {
	f := &Gateway{options: g.options, config: g.config, text: g.text, refused: g.refused, engine: g.engine, programs: g.programs}
	f.compiler.Layout = f.engine.Rules
	if g.FromSnapshot() {
		return f, nil
	}
	f.table = new(table)
	return f, f.openStores()
}

// Inherit takes over the caches of a gateway that is replaced, as far as they hold
// with any configuration, its knowledge of the memory, and the changes that Ahead has put in
// force.
func (g *Gateway) Inherit(from *Gateway) {
	g.reader, g.memory, g.table = from.reader, from.memory, from.table
	g.made, g.madeFor = from.made, from.madeFor
}

// WillCommit says that the changes of this gateway's looks are committed.
func (g *Gateway) WillCommit() { g.commits = true }

// Options returns the options that the gateway was opened with.
func (g *Gateway) Options() Options { return g.options }

// Dirs returns the directories of the gateway.
func (g *Gateway) Dirs() rundir.Dirs { return g.options.Dirs }

// Config returns the configuration as it was read.
func (g *Gateway) Config() config.Config { return g.config }

// Engine returns the engine that lays the rules out.
func (g *Gateway) Engine() engine.Engine { return g.engine }

// Programs returns the iptables programs, nil if there are none.
func (g *Gateway) Programs() *iptables.Programs { return g.programs }

// InTables reports whether all our rules are in nf_tables, which notifies of each change.
func (g *Gateway) InTables() bool {
	return g.programs == nil || g.programs.Variant() == iptables.NFT
}

// FromSnapshot reports whether a snapshot replaces the kernel.
func (g *Gateway) FromSnapshot() bool { return g.options.Snapshot != "" }

// snapshot reads the kernel, or the file that replaces it.
func (g *Gateway) snapshot(ctx context.Context) (xfrm.Snapshot, error) {
	if !g.FromSnapshot() {
		return g.reader.Read(ctx)
	}
	f, err := os.Open(g.options.Snapshot)
	if err != nil {
		return xfrm.Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	defer func() { _ = f.Close() }()
	s, err := xfrm.ReadJSON(f)
	if err != nil {
		return xfrm.Snapshot{}, fmt.Errorf("read snapshot %s: %w", g.options.Snapshot, err)
	}
	return s, nil
}

// Rules reads the live rules; with a snapshot there are none.
func (g *Gateway) Rules(ctx context.Context) (map[xfrm.Family]live.Tables, error) {
	if g.FromSnapshot() {
		return map[xfrm.Family]live.Tables{xfrm.IPv4: {}, xfrm.IPv6: {}}, nil
	}
	if g.programs == nil {
		if g.needsPrograms() {
			return nil, errors.New("read live rules: iptables is not installed")
		}
		return nil, nil
	}
	rules, err := g.programs.SaveAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("read live rules: %w", err)
	}
	return rules, nil
}
