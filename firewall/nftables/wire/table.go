package wire

import (
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

var chainTypes = map[sets.ChainType]string{sets.Filter: "filter", sets.NAT: "nat", sets.Route: "route"}

// Table appends the attributes of NFT_MSG_NEWTABLE.
func (w *Writer) Table(name string, flags sets.TableFlags, comment string) {
	w.Text(unix.NFTA_TABLE_NAME, name)
	w.U32(unix.NFTA_TABLE_FLAGS, uint32(flags))
	if comment != "" {
		w.bytes(nftaTableUserdata, commentUdata(udataComment, comment))
	}
}

// Table is a table as it was read.
type Table struct {
	Name, Comment string
	Flags         sets.TableFlags
	Owner         uint32
}

// DecodeTable reads the attributes of a table.
func DecodeTable(b []byte) (t Table) {
	for a := range Attrs(b) {
		switch a.Type {
		case unix.NFTA_TABLE_NAME:
			t.Name = a.Text()
		case unix.NFTA_TABLE_FLAGS:
			t.Flags = sets.TableFlags(a.U32())
		case nftaTableOwner:
			t.Owner = a.U32()
		case nftaTableUserdata:
			t.Comment = readComment(a.Value, udataComment)
		}
	}
	return t
}

// Chain appends the attributes of NFT_MSG_NEWCHAIN.
func (w *Writer) Chain(table string, c *sets.Chain) {
	w.Text(unix.NFTA_CHAIN_TABLE, table)
	w.Text(unix.NFTA_CHAIN_NAME, c.Name)
	if c.Comment != "" {
		w.bytes(nftaChainUserdata, commentUdata(udataComment, c.Comment))
	}
	if c.Base.Type == sets.Regular {
		return
	}
	hook := w.Nest(unix.NFTA_CHAIN_HOOK)
	w.U32(unix.NFTA_HOOK_HOOKNUM, uint32(c.Base.Hook))
	w.U32(unix.NFTA_HOOK_PRIORITY, uint32(c.Base.Priority))
	w.End(hook)
	policy := uint32(nfAccept)
	if c.Base.Policy == sets.PolicyDrop {
		policy = nfDrop
	}
	w.U32(unix.NFTA_CHAIN_POLICY, policy)
	w.Text(unix.NFTA_CHAIN_TYPE, chainTypes[c.Base.Type])
}

// DecodeChain reads a chain, and the table that it is of.
func DecodeChain(b []byte) (table string, c sets.Chain) {
	var hooked bool
	var typ string
	for a := range Attrs(b) {
		switch a.Type {
		case unix.NFTA_CHAIN_TABLE:
			table = a.Text()
		case unix.NFTA_CHAIN_NAME:
			c.Name = a.Text()
		case unix.NFTA_CHAIN_TYPE:
			typ = a.Text()
		case unix.NFTA_CHAIN_POLICY:
			if a.U32() == nfDrop {
				c.Base.Policy = sets.PolicyDrop
			}
		case nftaChainUserdata:
			c.Comment = readComment(a.Value, udataComment)
		case unix.NFTA_CHAIN_HOOK:
			hooked = true
			for h := range Attrs(a.Value) {
				switch h.Type {
				case unix.NFTA_HOOK_HOOKNUM:
					c.Base.Hook = sets.Hook(h.U32())
				case unix.NFTA_HOOK_PRIORITY:
					c.Base.Priority = int32(h.U32())
				}
			}
		}
	}
	if hooked {
		// A type that this package has not makes the base equal to no wanted one.
		c.Base.Type = ^sets.ChainType(0)
	}
	for t, name := range chainTypes {
		if name == typ {
			c.Base.Type = t
		}
	}
	return table, c
}

// Rule appends the attributes of NFT_MSG_NEWRULE.
func (w *Writer) Rule(table, chain string, r *sets.Rule, exprs []expr, before uint64, ids *SetIDs) {
	w.Text(unix.NFTA_RULE_TABLE, table)
	w.Text(unix.NFTA_RULE_CHAIN, chain)
	if before != 0 {
		w.U64(unix.NFTA_RULE_POSITION, before)
	}
	w.expressions(exprs, r.Count, ids)
	if r.Comment != "" {
		w.bytes(unix.NFTA_RULE_USERDATA, commentUdata(udataComment, r.Comment))
	}
}

// DecodeRule reads a rule and the chain that it is of. values returns the values that an
// anonymous set holds.
func DecodeRule(b []byte, interval IsInterval, fill func(*Lookup)) (chain string, r sets.Rule) {
	var exprs []expr
	for a := range Attrs(b) {
		switch a.Type {
		case unix.NFTA_RULE_CHAIN:
			chain = a.Text()
		case unix.NFTA_RULE_HANDLE:
			r.Handle = a.u64()
		case unix.NFTA_RULE_USERDATA:
			r.Comment = readComment(a.Value, udataComment)
		case unix.NFTA_RULE_EXPRESSIONS:
			exprs, r.Count = decodeExprs(a.Value)
		}
	}
	for i, e := range exprs {
		if l, ok := e.(Lookup); ok {
			fill(&l)
			exprs[i] = l
		}
	}
	r.Terms = liftRule(exprs, interval)
	return chain, r
}
