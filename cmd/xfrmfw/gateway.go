package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/memory"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// gateway is the host that is worked on: it wires the kernel's states and
// policies to its iptables programs.
type gateway struct {
	config   firewall.Config
	programs *iptables.Programs
	reader   kernel.Reader
	// joiner, compiler and tracker keep what makes the next look cheaper.
	joiner   xfrm.Joiner
	compiler firewall.Compiler
	tracker  firewall.Tracker
	// file is the snapshot that stands in for the kernel, if any.
	file  string
	store memory.Store
	// memory is what is guarded beyond its policies, as the store had it.
	memory []firewall.Guard
	// live are the rules of others as they were read last, nil if they were not.
	live map[xfrm.Family]firewall.Save
	// looked tells that it was compiled before.
	looked bool
	// peers are the records of the updown hook, nil with a snapshot file.
	peers *peers.Store
	// natSources are what the live rules of others map to.
	natSources []netip.Prefix
	// insist makes it an error that cross_check: enforce can't be in force, where
	// else it is left with a warning.
	insist bool
	// warnings are for the user, besides those of the compiler.
	warnings []string
}

// wanted is one reading of the kernel and what follows from it.
type wanted struct {
	snapshot xfrm.Snapshot
	set      xfrm.Set
	peers    peers.Found
	result   firewall.Result
}

// openGateway reads the configuration first, so that a bad one stops everything
// before anything is looked at. With a snapshot file no program is needed.
func openGateway(ctx context.Context, o *options, file string) (*gateway, error) {
	g, _, err := openGatewayWith(ctx, o, file, iptables.Options{})
	return g, err
}

// openGatewayWith is openGateway for who wants the programs run in a way of his
// own, and the daemon's part of the configuration.
func openGatewayWith(ctx context.Context, o *options, file string, run iptables.Options) (*gateway, config.Daemon, error) {
	c, err := config.Load(o.config, o.explicit)
	if err != nil {
		return nil, c.Daemon, err
	}
	run.Variant = iptables.Variant(o.variant)
	if run.Variant != "" && run.Variant != iptables.NFT && run.Variant != iptables.Legacy {
		return nil, c.Daemon, usageError(fmt.Sprintf("--variant %s: want nft or legacy", o.variant))
	}
	g := &gateway{config: c.Firewall, file: file, store: memory.In(o.stateDir)}
	if file != "" {
		return g, c.Daemon, nil
	}
	if g.peers, err = openPeers(o); err != nil {
		return nil, c.Daemon, err
	}
	run.Families = []xfrm.Family{xfrm.IPv4, xfrm.IPv6}
	if kernel.NoIPv6() {
		run.Families = run.Families[:1]
	}
	g.programs, err = iptables.Find(ctx, run)
	if err != nil {
		return nil, c.Daemon, fmt.Errorf("find iptables: %w", err)
	}
	return g, c.Daemon, nil
}

// want reads the kernel, or the snapshot file, and compiles.
func (g *gateway) want(ctx context.Context) (wanted, error) {
	var s xfrm.Snapshot
	var err error
	if g.file != "" {
		s, err = readSnapshotFile(g.file)
	} else {
		s, err = g.reader.Read(ctx)
	}
	if err != nil {
		return wanted{}, err
	}
	if err := g.chooseMarks(s); err != nil {
		return wanted{}, err
	}
	return g.compile(s), nil
}

// compile says what follows from a reading of the kernel.
func (g *gateway) compile(s xfrm.Snapshot) wanted {
	w := wanted{snapshot: s, set: g.joiner.Tunnels(s)}
	w.peers = g.recognise(w.set)
	guards := slices.Clone(g.config.Guard.Pairs)
	now := time.Now().Unix()
	for _, remembered := range g.memory {
		if remembered.Expires > now {
			guards = append(guards, remembered)
		}
	}
	w.result = g.compiler.Compile(firewall.Input{
		Set: w.set, Host: w.snapshot.Host, Config: g.config, Guards: guards, NATSources: g.natSources,
		Peers:        selecting(w.peers),
		MarksWritten: len(firewall.ForeignMarks(g.live, g.config.Marks.Both())) > 0,
	})
	return w
}

// chooseMarks picks the bits where the configuration leaves it to us, and makes
// sure that no routing rule looks at them.
func (g *gateway) chooseMarks(s xfrm.Snapshot) error {
	if g.config.AutoMarks {
		marks, ok := firewall.FreeMarks(firewall.UsedMarks(s, firewall.WrittenMarks(g.live)))
		if !ok {
			return errors.New("choose marks: no two bits of the fwmark are free: narrow the masks that others use, or name a pair by marks: {tag: ..., verified: ...}")
		}
		g.config.Marks = marks
	}
	if err := firewall.CheckMarks(s, firewall.WrittenMarks(g.live), g.config.Marks); err != nil {
		return fmt.Errorf("check marks: %w", err)
	}
	return nil
}

// markWarnings tell of rules of others that write our bits.
func (g *gateway) markWarnings() []string {
	var warnings []string
	for _, m := range firewall.ForeignMarks(g.live, g.config.Marks.Both()) {
		what := "clears our bits: traffic that it meets after our rules is no longer known as verified; narrow its mask"
		if m.Sets {
			what = "can set our bits: they are cleared again wherever the kernel knows of no state; narrow its mask"
		}
		warnings = append(warnings, m.String()+": "+what)
	}
	return warnings
}

// recall reads the memory. It is read at every look, under the caller's lock:
// another xfrmfw may have written it while we waited.
func (g *gateway) recall() error {
	if g.config.Guard.Forget || g.file != "" {
		return nil
	}
	held, warning, err := g.store.Load()
	if err != nil {
		return fmt.Errorf("%w: see its permissions, or name another directory with --state-dir", err)
	}
	if warning != "" {
		g.warnings = append(g.warnings, warning)
	}
	g.memory = held
	return nil
}

// remember brings the memory up to date with what was seen. That it can't be
// written is no reason to leave the rules as they are, but the user is told.
func (g *gateway) remember(w wanted) {
	if g.config.Guard.Forget {
		return
	}
	fresh, refused := firewall.Remember(g.memory, w.result.InForce(), w.set, w.snapshot.Host, g.config.Guard, time.Now().Unix())
	if refused > 0 {
		g.warnings = append(g.warnings, fmt.Sprintf("the memory has no room for %s: name them under guard: pairs:", text.Count(refused, "pair")))
	}
	if !memory.Changed(g.memory, fresh) {
		return
	}
	if err := g.store.Save(fresh); err != nil {
		g.warnings = append(g.warnings, fmt.Sprintf("%v: guarded pairs will be forgotten with their policies", err))
		return
	}
	g.memory = fresh
}

// have reads the live rules; with a snapshot file none are taken to be there.
func (g *gateway) have(ctx context.Context) (map[xfrm.Family]firewall.Save, error) {
	if g.file != "" {
		return map[xfrm.Family]firewall.Save{xfrm.IPv4: {}, xfrm.IPv6: {}}, nil
	}
	have, err := g.programs.SaveAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("read live rules: %w", err)
	}
	return have, nil
}

// look reads the live rules and the kernel, and plans what leads from the one to
// what the other asks for.
func (g *gateway) look(ctx context.Context) (wanted, map[xfrm.Family]firewall.Save, firewall.Change, error) {
	have, err := g.haveMeanwhile(ctx)
	if err != nil {
		return wanted{}, nil, firewall.Change{}, err
	}
	g.tracker.Observed(have)
	w, change, err := g.plan(ctx)
	return w, have, change, err
}

// haveMeanwhile reads the live rules, and does meanwhile what plan will do once
// they have been read: with many tunnels iptables-save takes longer than all else.
// Nothing is taken from that guess. The kernel is read again, and unless it has
// changed, or the live rules say what few do (whose NAT or marks matter to us), the
// compiler and the planner are then asked for what they know. What fails will fail
// again.
func (g *gateway) haveMeanwhile(ctx context.Context) (map[xfrm.Family]firewall.Save, error) {
	guessed := make(chan error, 1)
	go func() { guessed <- g.guess(ctx) }()
	have, err := g.have(ctx)
	if e := <-guessed; err == nil {
		err = e
	}
	return have, err
}

// guess compiles from what is known without the live rules, the first time: later
// the compiler has less to do. The error is one of the memory, which is not read
// again.
func (g *gateway) guess(ctx context.Context) error {
	if err := g.recall(); err != nil {
		return err
	}
	if g.file != "" || g.looked || g.config.AutoMarks {
		return nil
	}
	warnings := g.warnings
	defer func() { g.warnings = warnings }() // they may not hold later
	s, err := g.reader.Read(ctx)
	if err != nil {
		return nil
	}
	g.tracker.Expect(g.compile(s).result.Rulesets)
	return nil
}

// plan reads the kernel and plans what leads from the live rules that the tracker
// knows to what it asks for, with the memory that recall read. The rules come first: what others' NAT
// does to tunnel traffic is part of what is asked for.
func (g *gateway) plan(ctx context.Context) (wanted, firewall.Change, error) {
	g.live, g.looked = g.tracker.Others(), true
	g.natSources = firewall.NATSources(g.live)
	w, err := g.want(ctx)
	if err != nil {
		return wanted{}, firewall.Change{}, err
	}
	change, err := g.tracker.Plan(w.result.Rulesets)
	return w, change, err
}

func readSnapshotFile(name string) (xfrm.Snapshot, error) {
	f, err := os.Open(name)
	if err != nil {
		return xfrm.Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	defer func() { _ = f.Close() }()
	s, err := xfrm.ReadJSON(f)
	if err != nil {
		return xfrm.Snapshot{}, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	return s, nil
}
