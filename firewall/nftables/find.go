package nftables

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// Features are the parts of nf_tables that only newer kernels have.
type Features struct {
	// Owner is true from Linux 5.12 on: a table may belong to a socket.
	Owner bool
	// Persist is true from Linux 6.9 on: such a table outlives its socket.
	Persist bool
}

// trialTable is the name of the table that Find asks the kernel to make, and
// absentTable that of one which it asks to delete, so that nothing is made.
const (
	trialTable  = "xfrmfw-trial"
	absentTable = "xfrmfw-trial-absent"
)

// trial is one part of nf_tables that is tried.
type trial struct {
	module  string
	openwrt string // the package of OpenWrt that has it
	ops     []sets.Op
}

// Find finds the features of the kernel's nf_tables, by a transaction that tries
// everything which this package writes and ends with a mistake, so that the kernel
// throws it away: nothing is made, no generation passes, no event is sent. Its
// error names the modules that the kernel lacks.
func (c *Conn) Find() (Features, error) {
	f, err := c.find()
	if err != nil {
		return Features{}, fmt.Errorf("try nf_tables: %w", err)
	}
	return f, nil
}

func (c *Conn) find() (Features, error) {
	trials := trials()
	owner, persist := trial{ops: flagged(sets.Owner)}, trial{ops: flagged(sets.Owner | sets.Persist)}
	trials = append(trials, owner, persist)
	e := encoder{table: trialTable, interval: func(string) bool { return false }, seq: c.seq}
	of := make(map[uint32]int) // the trial of a message
	var batch []encoded
	for i, t := range trials {
		before := len(batch)
		e.stage(&batch, t.ops)
		for _, m := range batch[before:] {
			of[m.seq] = i
		}
	}
	e.op(&batch, sets.DeleteTable{Name: absentTable})
	mistake := batch[len(batch)-1].seq
	c.seq = e.seq
	c.drain()
	begin, err := c.sendBatch(batch, 0)
	if err != nil {
		return Features{}, err
	}
	failed := make(map[int]unix.Errno)
	refused := false
	err = c.answers(func(code unix.Errno, m message) {
		i, ok := of[m.seq]
		switch {
		case m.seq == mistake:
			refused = code == unix.ENOENT
		case m.seq == begin && code != 0:
			err = explain(code)
		case ok && code != 0 && failed[i] == 0:
			failed[i] = code
		}
	})
	return judge(trials, failed, refused, err)
}

// judge turns the kernel's answers into features. The last two trials are of
// features that may be missing.
func judge(trials []trial, failed map[int]unix.Errno, refused bool, err error) (Features, error) {
	needed := len(trials) - 2
	for i := range needed {
		switch code := failed[i]; code {
		case 0:
		case unix.EPERM, unix.EACCES:
			return Features{}, explain(code)
		default:
			err = errors.Join(err, missing(trials[i], code))
			if i == 0 { // without the table all others fail
				return Features{}, err
			}
		}
	}
	switch {
	case err != nil:
		return Features{}, err
	case !refused:
		return Features{}, errors.New("the kernel did not answer")
	}
	return Features{Owner: failed[needed] == 0, Persist: failed[needed+1] == 0}, nil
}

func missing(t trial, code unix.Errno) error {
	option := "CONFIG_" + strings.ToUpper(t.module)
	text := "the kernel has no " + t.module + ": load the module, or set " + option
	if t.openwrt != "" {
		text += "; on OpenWrt install " + t.openwrt
	}
	return fmt.Errorf("%s: %w", text, code)
}

// trials are the parts that are needed. The first makes the table.
func trials() []trial {
	chain := func(name string, base sets.Base) sets.Op {
		return sets.AddChain{Chain: sets.Chain{Name: name, Base: base}}
	}
	rule := func(chain string, terms ...sets.Term) sets.Op {
		return sets.AddRule{Chain: chain, Rule: sets.Rule{Terms: terms}}
	}
	const filter, nat = "filter_", "nat_"
	pair := sets.Set{Name: "pair", Key: []sets.Field{sets.F(sets.InReqid), sets.F(sets.Src4), sets.F(sets.Dst4)}, Counter: true, Size: 2}
	ranges := sets.Set{Name: "ranges", Key: []sets.Field{sets.F(sets.InName), sets.F(sets.Src4)}, Interval: true}
	seen := sets.Set{Name: "seen", Key: []sets.Field{sets.F(sets.Src4)}, Dynamic: true, Size: 2, Timeout: 10 * time.Second}
	return []trial{
		{"nf_tables", "nftables", []sets.Op{sets.AddTable{Table: sets.Table{Name: trialTable}}}},
		{"nf_tables_inet", "", []sets.Op{
			chain(filter, sets.Base{Type: sets.Filter, Hook: sets.Forward}),
			sets.AddSet{Set: pair}, sets.AddSet{Set: ranges}, sets.AddSet{Set: seen},
			rule(filter, sets.Update{Fields: seen.Key, Set: seen.Name}),
			rule(filter, sets.MaxSeg{Size: 1360}),
		}},
		{"nft_xfrm", "kmod-nft-xfrm", []sets.Op{rule(filter, sets.In{Fields: pair.Key, Set: pair.Name})}},
		{"nft_fib_inet", "kmod-nft-fib", []sets.Op{
			chain("pre", sets.Base{Type: sets.Filter, Hook: sets.Prerouting}),
			rule("pre", sets.Missing(sets.FibSrcInput)),
		}},
		{"nft_ct", "kmod-nft-core", []sets.Op{rule(filter, sets.AnyBit(sets.CtState, sets.Related))}},
		{"nft_log", "kmod-nft-core", []sets.Op{rule(filter, sets.Log{Prefix: "xfrmfw"})}},
		{"nft_limit", "kmod-nft-core", []sets.Op{rule(filter, sets.Limit{Rate: 5, Per: time.Second, Burst: 5})}},
		{"nft_reject_inet", "kmod-nft-core", []sets.Op{rule(filter, sets.Reject{With: sets.AdminProhibited})}},
		{"nft_nat", "kmod-nft-nat", []sets.Op{
			chain(nat, sets.Base{Type: sets.NAT, Hook: sets.Postrouting, Priority: -190}),
			rule(nat, sets.SNAT{To: sets.F(sets.Src4)}),
		}},
	}
}

// flagged makes one more table with flags.
func flagged(f sets.TableFlags) []sets.Op {
	name := trialTable + "-" + strings.ReplaceAll(f.String(), ",", "-")
	return []sets.Op{sets.AddTable{Table: sets.Table{Name: name, Flags: f}}}
}
