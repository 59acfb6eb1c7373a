package nftables

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/nftables/wire"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// Apply makes a change of a table that was read, and returns the generation that
// it led to. Sets of the wanted table that rules refer to are in want, which need
// not hold elements.
//
// The change is one transaction. In a user namespace, where the kernel takes no
// batch as long, it is several, in the order that sets.Change describes. On
// ErrStale nothing of the refused transaction is in force: the caller reads the
// table and tries again.
func (c *Conn) Apply(s State, change sets.Change, want sets.Table) (generation uint32, err error) {
	if change.Empty() {
		return s.Generation, nil
	}
	if s.Owner != 0 && s.Owner != c.port {
		return s.Generation, fmt.Errorf("change table %s: %w (port %d)", change.Table, ErrOwned, s.Owner)
	}
	c.drain()
	e := encoder{table: change.Table, interval: intervals(append(slices.Clone(want.Sets), s.Table.Sets...)), seq: c.seq}
	e.stage(&e.grow, change.Grow)
	e.stage(&e.whole, change.Switch)
	e.stage(&e.shrink, change.Shrink)
	c.seq = e.seq
	generation = s.Generation
	batches, err := c.split(&e)
	if err != nil {
		return generation, fmt.Errorf("change table %s: %w", change.Table, err)
	}
	for i, batch := range batches {
		if generation, err = c.commit(batch, generation); err != nil {
			if len(batches) > 1 {
				err = fmt.Errorf("transaction %d of %d: %w", i+1, len(batches), err)
			}
			return generation, fmt.Errorf("change table %s: %w", change.Table, err)
		}
	}
	return generation, nil
}

// framing is the room for the messages that begin and end a batch.
const framing = 2*wire.HeaderSize + 8

// split puts the messages in batches that the socket takes: one if it can be.
func (c *Conn) split(e *encoder) ([][]encoded, error) {
	all := slices.Concat(e.grow, e.whole, e.shrink)
	if c.grow(size(all) + framing) {
		return [][]encoded{all}, nil
	}
	if !c.grow(size(e.whole) + framing) {
		return nil, fmt.Errorf("the change of rules has %d bytes and this user namespace takes %d: raise net.core.wmem_max: %w", size(e.whole), c.room, unix.EMSGSIZE)
	}
	batches := c.chunks(e.grow)
	if len(e.whole) > 0 {
		batches = append(batches, e.whole)
	}
	return append(batches, c.chunks(e.shrink)...), nil
}

// chunks splits messages that may take several transactions.
func (c *Conn) chunks(messages []encoded) (batches [][]encoded) {
	var batch []encoded
	total := framing
	for _, m := range messages {
		if len(batch) > 0 && !c.grow(total+len(m.bytes)) {
			batches, batch, total = append(batches, batch), nil, framing
		}
		batch, total = append(batch, m), total+len(m.bytes)
	}
	if len(batch) > 0 {
		batches = append(batches, batch)
	}
	return batches
}

func size(messages []encoded) (n int) {
	for _, m := range messages {
		n += len(m.bytes)
	}
	return n
}

// commit sends one transaction and reads the kernel's answer to each message.
func (c *Conn) commit(batch []encoded, generation uint32) (uint32, error) {
	if len(batch) == 0 {
		return generation, nil
	}
	batch[len(batch)-1].wantAck()
	begin, err := c.sendBatch(batch, generation)
	if err != nil {
		return generation, err
	}
	if err := c.verdict(batch, begin); err != nil {
		return generation, err
	}
	return generation + 1, nil
}

// sendBatch sends messages as one transaction, which holds only for a generation,
// or with 0 for any. It returns the number of the message that begins it.
func (c *Conn) sendBatch(batch []encoded, generation uint32) (begin uint32, err error) {
	c.out.B = c.out.B[:0]
	c.seq++
	begin = c.seq
	start := c.out.Message(unix.NFNL_MSG_BATCH_BEGIN, 0, begin, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	if generation != 0 {
		c.out.U32(nfnlBatchGenID, generation)
	}
	c.out.Finish(start)
	for _, m := range batch {
		c.out.B = append(c.out.B, m.bytes...)
	}
	c.seq++
	c.out.Finish(c.out.Message(unix.NFNL_MSG_BATCH_END, 0, c.seq, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
	if err := c.send(c.out.B); err != nil {
		return begin, fmt.Errorf("send %d bytes: %w", len(c.out.B), explain(err))
	}
	return begin, nil
}

// verdict returns the first thing that the kernel says against a transaction.
func (c *Conn) verdict(batch []encoded, begin uint32) error {
	done := false
	var failed error
	err := c.answers(func(code unix.Errno, m message) {
		i := slices.IndexFunc(batch, func(e encoded) bool { return e.seq == m.seq })
		switch {
		case code == 0:
			done = done || i == len(batch)-1
		case code == unix.ERESTART:
			failed = ErrStale
		case failed != nil:
		case i >= 0:
			failed = batch[i].error(code, m)
		case m.seq == begin:
			failed = explain(code)
		}
	})
	switch {
	case err != nil:
		return err
	case failed != nil:
		return failed
	case !done:
		return errors.New("the kernel did not answer")
	}
	return nil
}

// answers calls each with the answers to a transaction. The kernel has queued all
// of them by the time that the batch is sent.
func (c *Conn) answers(each func(code unix.Errno, m message)) error {
	for {
		err := c.receive(unix.MSG_DONTWAIT, func(m message) error {
			if m.typ == unix.NLMSG_ERROR {
				each(answerCode(m.body), m)
			}
			return nil
		})
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS):
			return err
		}
	}
}
