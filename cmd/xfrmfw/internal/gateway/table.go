package gateway

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/xfrmfw/xfrmfw/firewall/nftables"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// table is our table of nftables as it is known, and the socket by which it is read and
// changed. The socket is kept open, because a table with an owner belongs to it. A nil
// table, that of a snapshot, is always known to be none.
type table struct {
	conn *nftables.Conn
	// port is the address of the socket, 0 before it is open, for other goroutines.
	port atomic.Uint32
	// tried is true once the kernel was asked for the features of the table, and lacks its answer.
	tried bool
	lacks error
	state nftables.State
	known bool
	// wanted is the table that was committed or found right last.
	wanted sets.Table
}

// open opens the socket.
func (t *table) open() (err error) {
	if t.conn != nil {
		return nil
	}
	if t.conn, err = nftables.Open(); err != nil {
		return err
	}
	t.port.Store(t.conn.Port())
	runtime.AddCleanup(t, func(c *nftables.Conn) { _ = c.Close() }, t.conn)
	return nil
}

// Committed reports whether a transaction of nf_tables was one of this gateway or of its
// programs. It may be called while the gateway is in use.
func (g *Gateway) Committed(c kernel.Committer) bool {
	return g.table != nil && c.Port != 0 && c.Port == g.table.port.Load() ||
		c.PID != 0 && g.programs != nil && g.programs.Ran(c.PID)
}

// isKnown reports whether the table is as it was read or committed last: nothing of
// nf_tables changed in this network namespace since.
func (t *table) isKnown() bool {
	if t == nil || !t.known || t.conn == nil {
		return t == nil || t.known
	}
	generation, err := t.conn.Generation()
	t.known = err == nil && generation == t.state.Generation
	return t.known
}

func (t *table) forget() {
	if t != nil {
		t.known = false
	}
}

// find asks the kernel once for the features of the table.
func (t *table) find() error {
	if !t.tried {
		t.tried = true
		_, t.lacks = t.conn.Find()
	}
	return t.lacks
}

// findCompanion gives the iptables engine its companion where the kernel has the features
// for it.
func (g *Gateway) findCompanion() {
	t := g.table
	if g.looked || t == nil || g.engine.TableDecides() {
		return
	}
	g.looked = true
	if err := t.open(); err != nil {
		t.tried, t.lacks = true, err
	}
	g.setEngine(t.find() == nil)
}

// withoutCompanion warns of a kernel that lacks the features of the companion, if other
// programs have rules for NAT. Packets that their NAT rewrites are not guarded there.
func (g *Gateway) withoutCompanion(have map[xfrm.Family]live.Tables) string {
	if g.table == nil || g.engine.TableDecides() || g.table.lacks == nil || !live.RewritesSources(have) {
		return ""
	}
	return fmt.Sprintf("%v: packets that NAT of other programs maps into a tunnel's local selector are not guarded while the tunnel is down", g.table.lacks)
}

// ReadTable reads our table. A kernel without nf_tables has none, which is an error only
// where one is wanted.
func (g *Gateway) ReadTable() (nftables.State, error) {
	t := g.table
	if t == nil {
		return nftables.State{}, nil
	}
	g.findCompanion()
	if t.isKnown() {
		return t.state, nil
	}
	err := t.open()
	if err == nil {
		t.state, err = t.conn.Read(program.Name)
	}
	if err == nil && !sets.Diff(t.state.Table, t.wanted).Empty() {
		g.world, g.follower = nil, nil // others changed the table
	}
	if errors.Is(err, nftables.ErrNoTables) && !g.engine.TableDecides() {
		t.state, t.lacks, t.tried, err = nftables.State{}, err, true, nil
	}
	t.known = err == nil
	if err != nil {
		return nftables.State{}, err
	}
	return t.state, nil
}

// PlanTable compares the wanted table with the live one. A kernel that lacks features the
// table needs is found here, before anything is changed.
func (g *Gateway) PlanTable(l *Look) error {
	l.TableChange = sets.Diff(l.Live.Table.Table, l.Table)
	if g.table == nil {
		return nil
	}
	if l.TableChange.Empty() {
		g.table.wanted = l.Table
		return nil
	}
	l.TableDrift = g.table.wanted.Name != "" && sets.Diff(g.table.wanted, l.Table).Empty()
	if l.Table.Name == "" {
		return nil
	}
	if err := l.Table.Validate(); err != nil {
		return fmt.Errorf("plan table: %w", err)
	}
	if err := g.table.find(); err != nil {
		return fmt.Errorf("engine nftables: %w: nothing was changed", err)
	}
	return nil
}

// commitTable applies the change of a look to the wanted table, and keeps its state.
func (g *Gateway) commitTable(l Look, want sets.Table, done *Done) (retry bool, err error) {
	if l.TableChange.Empty() {
		return false, nil
	}
	t := g.table
	generation, err := t.conn.Apply(l.Live.Table, l.TableChange, want)
	if err != nil {
		t.known = false
		return errors.Is(err, nftables.ErrStale), fmt.Errorf("apply table: %w", err)
	}
	done.Tables = append(done.Tables, l.TableChange)
	t.state.Generation, t.wanted = generation, want
	if t.known = onlyElements(l.TableChange); t.known {
		t.state.Table = withElements(l.Live.Table.Table, want)
	}
	return false, nil
}

// settle reads the table again after a commit of more than elements, because the kernel
// numbers the rules, and a commit of iptables-nft makes a new generation. A table that
// another program has changed meanwhile stays unknown.
func (t *table) settle(want sets.Table) {
	if t.isKnown() || t.conn == nil {
		return
	}
	now, err := t.conn.Read(program.Name)
	if err == nil && sets.Diff(now.Table, want).Empty() {
		now.Table = withElements(now.Table, want)
		t.state, t.wanted, t.known = now, want, true
	}
}

// onlyElements reports whether a change adds and deletes elements alone, so that the rest
// of the table is as it was read.
func onlyElements(c sets.Change) bool {
	return !slices.ContainsFunc(c.Ops(), func(op sets.Op) bool {
		switch op.(type) {
		case sets.AddElements, sets.DeleteElements:
			return false
		}
		return true
	})
}

// withElements returns the table that was read with the wanted elements.
func withElements(have, want sets.Table) sets.Table {
	have.Sets = slices.Clone(have.Sets)
	for i := range have.Sets {
		if s, ok := want.Set(have.Sets[i].Name); ok && !s.Dynamic {
			have.Sets[i].Elements = s.Elements
		}
	}
	return have
}

// undoTable puts the former table back, after a later commit failed.
func (g *Gateway) undoTable(former nftables.State) error {
	g.table.known = false
	now, err := g.table.conn.Read(program.Name)
	if err == nil {
		_, err = g.table.conn.Apply(now, sets.Diff(now.Table, former.Table), former.Table)
	}
	if err != nil {
		return fmt.Errorf("put the former table back: %w", err)
	}
	return nil
}

// SavedTable returns our table for RestoreTable, and whether it has the verdicts.
func (g *Gateway) SavedTable() (saved []byte, decides bool, err error) {
	state, err := g.ReadTable()
	if err != nil || state.Table.Name == "" {
		return nil, false, err
	}
	_, decides = state.Table.Chain(program.Decides)
	return nftables.Save(state), decides, nil
}

// RestoreTable puts a saved table back in the place of ours.
func RestoreTable(saved []byte) error {
	c, err := nftables.Open()
	if err != nil {
		if len(saved) == 0 && errors.Is(err, nftables.ErrNoTables) {
			return nil
		}
		return err
	}
	defer func() { _ = c.Close() }()
	for range tableAttempts {
		var now nftables.State
		if now, err = c.Read(program.Name); err != nil {
			if len(saved) == 0 && errors.Is(err, nftables.ErrNoTables) {
				return nil
			}
			return err
		}
		if err = c.Restore(program.Name, now, saved); !errors.Is(err, nftables.ErrStale) {
			return err
		}
	}
	return err
}

// ClearTable deletes our table, and reports whether there was one, and one with the
// verdicts.
func (g *Gateway) ClearTable() (cleared, decided bool, err error) {
	for range tableAttempts {
		g.table.forget()
		var now nftables.State
		if now, err = g.ReadTable(); err != nil || now.Table.Name == "" {
			return false, false, err
		}
		_, decided = now.Table.Chain(program.Decides)
		g.table.forget()
		if _, err = g.table.conn.Apply(now, sets.Diff(now.Table, sets.Table{}), sets.Table{}); err == nil {
			return true, decided, nil
		}
		if !errors.Is(err, nftables.ErrStale) {
			break
		}
	}
	return false, false, err
}

// tableAttempts is how often a change is tried while other programs change tables.
const tableAttempts = 8

// TableDifferences are those that the change of the table mends, one line each.
func (l Look) TableDifferences() []string {
	var lines []string
	for _, op := range l.TableChange.Ops() {
		lines = append(lines, "nftables "+l.TableChange.Table+": "+op.String())
	}
	return lines
}
