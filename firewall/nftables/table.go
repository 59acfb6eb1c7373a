package nftables

import (
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

var chainTypes = map[sets.ChainType]string{sets.Filter: "filter", sets.NAT: "nat", sets.Route: "route"}

// table appends the attributes of NFT_MSG_NEWTABLE.
func (w *writer) table(name string, flags sets.TableFlags, comment string) {
	w.text(unix.NFTA_TABLE_NAME, name)
	w.u32(unix.NFTA_TABLE_FLAGS, uint32(flags))
	if comment != "" {
		w.bytes(nftaTableUserdata, commentUdata(udataComment, comment))
	}
}

// readTable is a table as it was read.
type readTable struct {
	name, comment string
	flags         sets.TableFlags
	owner         uint32
}

func decodeTable(b []byte) (t readTable) {
	for a := range attrs(b) {
		switch a.typ {
		case unix.NFTA_TABLE_NAME:
			t.name = a.text()
		case unix.NFTA_TABLE_FLAGS:
			t.flags = sets.TableFlags(a.u32())
		case nftaTableOwner:
			t.owner = a.u32()
		case nftaTableUserdata:
			t.comment = readComment(a.value, udataComment)
		}
	}
	return t
}

// chain appends the attributes of NFT_MSG_NEWCHAIN.
func (w *writer) chain(table string, c *sets.Chain) {
	w.text(unix.NFTA_CHAIN_TABLE, table)
	w.text(unix.NFTA_CHAIN_NAME, c.Name)
	if c.Comment != "" {
		w.bytes(nftaChainUserdata, commentUdata(udataComment, c.Comment))
	}
	if c.Base.Type == sets.Regular {
		return
	}
	hook := w.nest(unix.NFTA_CHAIN_HOOK)
	w.u32(unix.NFTA_HOOK_HOOKNUM, uint32(c.Base.Hook))
	w.u32(unix.NFTA_HOOK_PRIORITY, uint32(c.Base.Priority))
	w.end(hook)
	policy := uint32(nfAccept)
	if c.Base.Policy == sets.PolicyDrop {
		policy = nfDrop
	}
	w.u32(unix.NFTA_CHAIN_POLICY, policy)
	w.text(unix.NFTA_CHAIN_TYPE, chainTypes[c.Base.Type])
}

// decodeChain reads a chain, and the table that it is of.
func decodeChain(b []byte) (table string, c sets.Chain) {
	var hooked bool
	var typ string
	for a := range attrs(b) {
		switch a.typ {
		case unix.NFTA_CHAIN_TABLE:
			table = a.text()
		case unix.NFTA_CHAIN_NAME:
			c.Name = a.text()
		case unix.NFTA_CHAIN_TYPE:
			typ = a.text()
		case unix.NFTA_CHAIN_POLICY:
			if a.u32() == nfDrop {
				c.Base.Policy = sets.PolicyDrop
			}
		case nftaChainUserdata:
			c.Comment = readComment(a.value, udataComment)
		case unix.NFTA_CHAIN_HOOK:
			hooked = true
			for h := range attrs(a.value) {
				switch h.typ {
				case unix.NFTA_HOOK_HOOKNUM:
					c.Base.Hook = sets.Hook(h.u32())
				case unix.NFTA_HOOK_PRIORITY:
					c.Base.Priority = int32(h.u32())
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

// rule appends the attributes of NFT_MSG_NEWRULE.
func (w *writer) rule(table, chain string, r *sets.Rule, exprs []expr, before uint64, ids *anonymous) {
	w.text(unix.NFTA_RULE_TABLE, table)
	w.text(unix.NFTA_RULE_CHAIN, chain)
	if before != 0 {
		w.u64(unix.NFTA_RULE_POSITION, before)
	}
	w.expressions(exprs, r.Count, ids)
	if r.Comment != "" {
		w.bytes(unix.NFTA_RULE_USERDATA, commentUdata(udataComment, r.Comment))
	}
}

// decodeRule reads a rule and the chain that it is of. values returns what an
// anonymous set holds.
func decodeRule(b []byte, interval isInterval, fill func(*lookup)) (chain string, r sets.Rule) {
	var exprs []expr
	for a := range attrs(b) {
		switch a.typ {
		case unix.NFTA_RULE_CHAIN:
			chain = a.text()
		case unix.NFTA_RULE_HANDLE:
			r.Handle = a.u64()
		case unix.NFTA_RULE_USERDATA:
			r.Comment = readComment(a.value, udataComment)
		case unix.NFTA_RULE_EXPRESSIONS:
			exprs, r.Count = decodeExprs(a.value)
		}
	}
	for i, e := range exprs {
		if l, ok := e.(lookup); ok {
			fill(&l)
			exprs[i] = l
		}
	}
	r.Terms = liftRule(exprs, interval)
	return chain, r
}
