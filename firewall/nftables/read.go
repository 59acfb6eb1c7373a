package nftables

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/nftables/wire"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// State is a table as it was read.
type State struct {
	// Table is the zero Table if there is none of the name. Its sets hold elements.
	Table sets.Table
	// Generation is that in which all of the table was read, or to which a change
	// led.
	Generation uint32
	// Owner is the port of the socket that the table belongs to, 0 for none.
	Owner uint32
}

// attempts bounds how often a table is read anew because others change rules
// meanwhile.
const attempts = 10

// Generation returns the number of the network namespace's rules, which every
// commit of any program raises.
func (c *Conn) Generation() (uint32, error) {
	var id uint32
	err := c.request(unix.NFT_MSG_GETGEN, 0, func(*wire.Writer) {}, func(typ uint16, body []byte) {
		if typ == unix.NFT_MSG_NEWGEN {
			id = decodeGeneration(body)
		}
	})
	if err != nil {
		return 0, fmt.Errorf("read generation of nf_tables: %w", explain(err))
	}
	return id, nil
}

func decodeGeneration(body []byte) (id uint32) {
	for a := range wire.Attrs(body) {
		if a.Type == unix.NFTA_GEN_ID {
			id = a.U32()
		}
	}
	return id
}

// Read reads a table of a name with its chains, rules, sets and elements, all of
// one generation.
func (c *Conn) Read(name string) (State, error) {
	var s State
	err := c.consistent(func() error {
		var err error
		s, err = c.readOnce(name)
		return err
	}, &s.Generation)
	if err != nil {
		return State{}, fmt.Errorf("read table %s: %w", name, err)
	}
	return s, nil
}

// consistent reads until the generation is the same before and after: the kernel
// does not mark dumps of elements that others interrupt.
func (c *Conn) consistent(read func() error, generation *uint32) error {
	var last error
	for i := range attempts {
		time.Sleep(time.Duration(i) * time.Millisecond)
		before, err := c.Generation()
		if err != nil {
			return err
		}
		switch err := read(); {
		case errors.Is(err, errChanged), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
			c.drain()
			last = err
			continue
		case err != nil:
			// A set that is deleted between two dumps is not found.
			if after, e := c.Generation(); e == nil && after != before {
				last = err
				continue
			}
			return explain(err)
		}
		after, err := c.Generation()
		if err != nil {
			return err
		}
		if after == before {
			*generation = after
			return nil
		}
		last = errChanged
	}
	return fmt.Errorf("%d attempts: %w", attempts, last)
}

func (c *Conn) readOnce(name string) (State, error) {
	var s State
	t, found, err := c.readTable(name)
	if err != nil || !found {
		return s, err
	}
	s.Owner = t.Owner
	s.Table = sets.Table{Name: t.Name, Comment: t.Comment, Flags: t.Flags}
	anonymous := make(map[string]*wire.Set)
	all, err := c.readSets(name)
	if err != nil {
		return s, err
	}
	for i := range all {
		if all[i].Anonymous {
			anonymous[all[i].Name] = &all[i]
			continue
		}
		if all[i].Elements, err = c.readElements(name, &all[i].Set); err != nil {
			return s, fmt.Errorf("set %s: %w", all[i].Name, err)
		}
		s.Table.Sets = append(s.Table.Sets, all[i].Set)
	}
	if s.Table.Chains, err = c.readChains(name); err != nil {
		return s, err
	}
	if err = c.readRules(&s.Table, anonymous); err != nil {
		return s, err
	}
	s.Table.Sort()
	return s, nil
}

func (c *Conn) readTable(name string) (t wire.Table, found bool, err error) {
	err = c.request(unix.NFT_MSG_GETTABLE, 0,
		func(w *wire.Writer) { w.Text(unix.NFTA_TABLE_NAME, name) },
		func(typ uint16, body []byte) {
			if typ == unix.NFT_MSG_NEWTABLE {
				t, found = wire.DecodeTable(body), true
			}
		})
	if errors.Is(err, unix.ENOENT) {
		return t, false, nil
	}
	return t, found, err
}

func (c *Conn) readSets(table string) (all []wire.Set, err error) {
	err = c.request(unix.NFT_MSG_GETSET, unix.NLM_F_DUMP,
		func(w *wire.Writer) { w.Text(unix.NFTA_SET_TABLE, table) },
		func(typ uint16, body []byte) {
			if typ == unix.NFT_MSG_NEWSET {
				all = append(all, wire.DecodeSet(body))
			}
		})
	return all, err
}

// Elements reads the elements of one set with their counters, and nothing else of
// the table. The set's definition says how its keys are read.
func (c *Conn) Elements(table string, s sets.Set) ([]sets.Element, error) {
	var out []sets.Element
	var generation uint32
	err := c.consistent(func() error {
		var err error
		out, err = c.readElements(table, &s)
		return err
	}, &generation)
	if err != nil {
		return nil, fmt.Errorf("read set %s of table %s: %w", s.Name, table, err)
	}
	return out, nil
}

func (c *Conn) readElements(table string, s *sets.Set) ([]sets.Element, error) {
	var read []wire.Element
	err := c.request(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP,
		func(w *wire.Writer) {
			w.Text(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			w.Text(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		},
		func(typ uint16, body []byte) {
			if typ == unix.NFT_MSG_NEWSETELEM {
				wire.DecodeElements(s, body, func(e wire.Element) { read = append(read, e) })
			}
		})
	if err != nil || len(read) == 0 {
		return nil, err
	}
	elements := wire.Gather(s, read)
	// A dump of several messages goes on by a count of elements. A hash table that grows
	// meanwhile, for which there is no generation, has them in another order: then one
	// is met twice for each that is missed (net/netfilter/nf_tables_api.c,
	// nf_tables_dump_set; lib/rhashtable.c).
	for i := 1; i < len(elements); i++ {
		if elements[i].Key == elements[i-1].Key && elements[i].Last == elements[i-1].Last {
			return nil, errChanged
		}
	}
	return elements, nil
}

func (c *Conn) readChains(table string) (chains []sets.Chain, err error) {
	err = c.request(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, func(*wire.Writer) {}, func(typ uint16, body []byte) {
		if typ != unix.NFT_MSG_NEWCHAIN {
			return
		}
		// The kernel has no filter for the table of a chain.
		if of, chain := wire.DecodeChain(body); of == table {
			chains = append(chains, chain)
		}
	})
	return chains, err
}

func (c *Conn) readRules(t *sets.Table, anonymous map[string]*wire.Set) error {
	interval := intervals(t.Sets)
	var bodies [][]byte
	err := c.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP,
		func(w *wire.Writer) { w.Text(unix.NFTA_RULE_TABLE, t.Name) },
		func(typ uint16, body []byte) {
			if typ == unix.NFT_MSG_NEWRULE {
				bodies = append(bodies, slices.Clone(body))
			}
		})
	if err != nil {
		return err
	}
	chains := make(map[string]*sets.Chain, len(t.Chains))
	for i := range t.Chains {
		chains[t.Chains[i].Name] = &t.Chains[i]
	}
	var failed error
	for _, body := range bodies {
		name, r := wire.DecodeRule(body, interval, func(l *wire.Lookup) {
			if s := anonymous[l.Set]; s != nil {
				failed = errors.Join(failed, c.fill(t.Name, l, s))
			}
		})
		if chains[name] == nil {
			return errChanged
		}
		chains[name].Rules = append(chains[name].Rules, r)
	}
	return failed
}

// fill puts the values of an anonymous set in the look-up that refers to it. A set
// of ranges or of several fields stays a name, so that the rule is unknown.
func (c *Conn) fill(table string, l *wire.Lookup, s *wire.Set) error {
	if s.Interval || s.Verdicts || s.KeySize == 0 || s.KeySize > 16 {
		return nil
	}
	plain := sets.Set{Name: s.Name}
	elements, err := c.readElements(table, &plain)
	if err != nil {
		return fmt.Errorf("set %s: %w", s.Name, err)
	}
	keys := make([]string, len(elements))
	for i, e := range elements {
		keys[i] = string(e.Key)
	}
	slices.Sort(keys)
	l.Set, l.Size, l.Type, l.Values = "", int(s.KeySize), s.KeyType, strings.Join(keys, "")
	return nil
}

func intervals(all []sets.Set) wire.IsInterval {
	return func(name string) bool {
		i := slices.IndexFunc(all, func(s sets.Set) bool { return s.Name == name })
		return i >= 0 && all[i].Interval
	}
}
