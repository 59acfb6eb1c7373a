package nftables

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/nftables/wire"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// encoded is one message of a batch, with the operation that it is for.
type encoded struct {
	bytes []byte
	seq   uint32
	op    sets.Op
	// elements are those in the message, and ends where in the message each ends.
	elements []sets.Element
	ends     []int
}

// encoder turns operations to messages. Everything is in the order in which the
// kernel takes it.
type encoder struct {
	table    string
	interval wire.IsInterval
	seq      uint32
	ids      wire.SetIDs

	grow, whole, shrink []encoded
}

func (e *encoder) stage(to *[]encoded, ops []sets.Op) {
	for _, op := range ops {
		e.op(to, op)
	}
}

// message appends one message.
func (e *encoder) message(to *[]encoded, op sets.Op, typ, flags uint16, body func(*wire.Writer)) {
	e.seq++
	w := wire.Writer{B: make([]byte, 0, 256)}
	start := w.Begin(typ, flags, e.seq)
	body(&w)
	w.Finish(start)
	*to = append(*to, encoded{bytes: w.B, seq: e.seq, op: op})
}

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

func (e *encoder) op(to *[]encoded, op sets.Op) {
	switch o := op.(type) {
	case sets.AddTable:
		e.message(to, op, unix.NFT_MSG_NEWTABLE, create, func(w *wire.Writer) { w.Table(o.Table.Name, o.Table.Flags, o.Table.Comment) })
	case sets.SetFlags:
		e.message(to, op, unix.NFT_MSG_NEWTABLE, 0, func(w *wire.Writer) { w.Table(o.Name, o.Flags, "") })
	case sets.DeleteTable:
		e.message(to, op, unix.NFT_MSG_DELTABLE, 0, func(w *wire.Writer) { w.Text(unix.NFTA_TABLE_NAME, o.Name) })
	case sets.AddChain:
		e.message(to, op, unix.NFT_MSG_NEWCHAIN, create, func(w *wire.Writer) { w.Chain(e.table, &o.Chain) })
	case sets.DeleteChain:
		e.message(to, op, unix.NFT_MSG_DELCHAIN, 0, func(w *wire.Writer) {
			w.Text(unix.NFTA_CHAIN_TABLE, e.table)
			w.Text(unix.NFTA_CHAIN_NAME, o.Name)
		})
	case sets.FlushChain:
		e.message(to, op, unix.NFT_MSG_DELRULE, 0, func(w *wire.Writer) {
			w.Text(unix.NFTA_RULE_TABLE, e.table)
			w.Text(unix.NFTA_RULE_CHAIN, o.Name)
		})
	case sets.DeleteRule:
		e.message(to, op, unix.NFT_MSG_DELRULE, 0, func(w *wire.Writer) {
			w.Text(unix.NFTA_RULE_TABLE, e.table)
			w.Text(unix.NFTA_RULE_CHAIN, o.Chain)
			w.U64(unix.NFTA_RULE_HANDLE, o.Rule.Handle)
		})
	case sets.AddRule:
		e.rule(to, o)
	case sets.AddSet:
		e.message(to, op, unix.NFT_MSG_NEWSET, create, func(w *wire.Writer) { w.Set(e.table, &o.Set, e.ids.Next()) })
	case sets.DeleteSet:
		e.message(to, op, unix.NFT_MSG_DELSET, 0, func(w *wire.Writer) {
			w.Text(unix.NFTA_SET_TABLE, e.table)
			w.Text(unix.NFTA_SET_NAME, o.Name)
		})
	case sets.AddElements:
		e.elements(to, op, &o.Set, o.Elements, true)
	case sets.DeleteElements:
		e.elements(to, op, &o.Set, o.Elements, false)
	}
}

// rule appends a rule behind the anonymous sets that it looks up.
func (e *encoder) rule(to *[]encoded, o sets.AddRule) {
	exprs := wire.CompileRule(o.Rule.Terms, e.interval)
	ids := e.ids // the rule refers to the sets in the order in which they are made
	for _, x := range exprs {
		l, ok := x.(wire.Lookup)
		if !ok || l.Values == "" {
			continue
		}
		id := e.ids.Next()
		e.message(to, o, unix.NFT_MSG_NEWSET, create, func(w *wire.Writer) { w.AnonymousSet(e.table, l, id) })
		e.message(to, o, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, func(w *wire.Writer) { w.AnonymousElements(e.table, l, id) })
	}
	flags := uint16(unix.NLM_F_CREATE)
	if o.Before == 0 {
		flags |= unix.NLM_F_APPEND
	}
	e.message(to, o, unix.NFT_MSG_NEWRULE, flags, func(w *wire.Writer) { w.Rule(e.table, o.Chain, &o.Rule, exprs, o.Before, &ids) })
}

// elements appends elements of a set, in as many messages as they need: the length
// of an attribute has 16 bits.
func (e *encoder) elements(to *[]encoded, op sets.Op, s *sets.Set, all []sets.Element, add bool) {
	typ, flags := uint16(unix.NFT_MSG_DELSETELEM), uint16(0)
	if add {
		typ, flags = unix.NFT_MSG_NEWSETELEM, create
	}
	for len(all) > 0 {
		n := 0
		var ends []int
		e.message(to, op, typ, flags, func(w *wire.Writer) {
			w.Text(unix.NFTA_SET_ELEM_LIST_TABLE, e.table)
			w.Text(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
			list := w.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
			for n < len(all) && len(w.B) < maxElementMessage {
				w.Element(s, &all[n], add)
				ends = append(ends, len(w.B))
				n++
			}
			w.End(list)
		})
		m := &(*to)[len(*to)-1]
		m.elements, m.ends = all[:n], ends
		all = all[n:]
	}
}

// wantAck asks the kernel for an answer also if all is well.
func (m *encoded) wantAck() {
	wire.Native.PutUint16(m.bytes[6:], wire.Native.Uint16(m.bytes[6:])|unix.NLM_F_ACK)
}

// error returns the kernel's answer to the message, and names the element
// where it names one.
func (m *encoded) error(code unix.Errno, answer message) error {
	text, offset := extended(answer)
	e := &OpError{Op: m.op.String(), Message: text, Err: explainOp(code)}
	if len(m.elements) > 0 {
		e.Op = m.describe(offset)
	}
	return e
}

// describe names the element at an offset of the message, or else all of them by
// their number.
func (m *encoded) describe(offset int) string {
	one := func(s sets.Set, x sets.Element, add bool) string {
		if add {
			return sets.AddElements{Set: s, Elements: []sets.Element{x}}.String()
		}
		return sets.DeleteElements{Set: s, Elements: []sets.Element{x}}.String()
	}
	var s sets.Set
	add := false
	switch o := m.op.(type) {
	case sets.AddElements:
		s, add = o.Set, true
	case sets.DeleteElements:
		s = o.Set
	}
	for i, end := range m.ends {
		if offset > 0 && offset < end || len(m.elements) == 1 {
			return one(s, m.elements[i], add)
		}
	}
	return fmt.Sprintf("%s and %d others", one(s, m.elements[0], add), len(m.elements)-1)
}

// extended reads the kernel's own text and the place of the attribute at fault.
func extended(m message) (text string, offset int) {
	const header = 4 + unix.SizeofNlMsghdr
	if m.flags&nlmFAckTLVs == 0 || len(m.body) < header {
		return "", 0
	}
	b := m.body[header:]
	if m.flags&nlmFCapped == 0 {
		size := int(wire.Native.Uint32(m.body[4:])) - unix.SizeofNlMsghdr
		b = b[min(len(b), max(0, (size+3)&^3)):]
	}
	for a := range wire.Attrs(b) {
		switch {
		case a.Type == nlmsgerrAttrMsg:
			text = a.Text()
		case a.Type == nlmsgerrAttrOffs && len(a.Value) == 4:
			offset = int(wire.Native.Uint32(a.Value))
		}
	}
	return text, offset
}

// explainOp adds the meaning to an error about one operation.
func explainOp(code unix.Errno) error {
	switch code {
	case unix.EPERM:
		return fmt.Errorf("%w, or %w: %w", ErrPermission, ErrOwned, code)
	case unix.ENFILE:
		return fmt.Errorf("the set is full: %w", code)
	}
	return code
}
