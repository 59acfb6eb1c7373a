package nftables

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/nftables/wire"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// Save returns a table as the messages that make it from nothing, with the counters of
// its elements, for Restore. It is empty for a table that does not exist. Rules of others
// that this package does not know are left out.
func Save(s State) []byte {
	t := s.Table
	t.Chains = slices.Clone(t.Chains)
	for i := range t.Chains {
		t.Chains[i].Rules = slices.DeleteFunc(slices.Clone(t.Chains[i].Rules), func(r sets.Rule) bool {
			return slices.ContainsFunc(r.Terms, func(t sets.Term) bool { _, unknown := t.(sets.Unknown); return unknown })
		})
	}
	e := encoder{table: t.Name, interval: intervals(t.Sets)}
	var messages []encoded
	e.stage(&messages, sets.Diff(sets.Table{}, t).Ops())
	var saved []byte
	for _, m := range messages {
		saved = append(saved, m.bytes...)
	}
	return saved
}

// Restore puts a saved table in the place of the one that was read, in one transaction.
// On ErrStale nothing has changed.
func (c *Conn) Restore(name string, now State, saved []byte) error {
	if now.Table.Name == "" && len(saved) == 0 {
		return nil
	}
	if now.Owner != 0 && now.Owner != c.port {
		return fmt.Errorf("restore table %s: %w (port %d)", name, ErrOwned, now.Owner)
	}
	c.drain()
	e := encoder{table: name, seq: c.seq}
	var batch []encoded
	if now.Table.Name != "" {
		e.op(&batch, sets.DeleteTable{Name: name})
	}
	for b := saved; len(b) > 0; {
		size := 0
		if len(b) >= wire.HeaderSize {
			size = int(wire.Native.Uint32(b))
		}
		if size < wire.HeaderSize || size > len(b) || size%4 != 0 || wire.Native.Uint16(b[4:])>>8 != unix.NFNL_SUBSYS_NFTABLES {
			return fmt.Errorf("restore table %s: %w", name, errors.New("the saved table is damaged"))
		}
		e.seq++
		m := encoded{bytes: slices.Clone(b[:size]), seq: e.seq, op: sets.AddTable{Table: sets.Table{Name: name}}}
		wire.Native.PutUint32(m.bytes[8:], m.seq)
		batch, b = append(batch, m), b[size:]
	}
	c.seq = e.seq
	if !c.grow(size(batch) + framing) {
		return fmt.Errorf("restore table %s: %d bytes are more than this user namespace takes: raise net.core.wmem_max: %w", name, size(batch), unix.EMSGSIZE)
	}
	if _, err := c.commit(batch, now.Generation); err != nil {
		return fmt.Errorf("restore table %s: %w", name, err)
	}
	return nil
}
