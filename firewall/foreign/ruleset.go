// Package foreign reads the output of "nft -j list" and finds the fate of a packet in a
// base chain of another program. It models the statements that common firewalls use; the
// fate at any other statement is unsure. It runs no program.
package foreign

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// Ruleset is a list of tables.
type Ruleset struct{ Tables []Table }

// Table is one table with its chains and named sets.
type Table struct {
	// Family is ip, ip6, inet, arp, bridge or netdev.
	Family, Name string
	Chains       []Chain
	Flowtables   []Flowtable
	// sets are the elements of named sets and maps.
	sets map[string][]any
}

// Flowtable passes packets of known flows between devices, past all rules.
type Flowtable struct {
	Name    string
	Devices []string
}

// Chain is a base chain, if it has a hook, or one that others jump to.
type Chain struct {
	Name string
	// Type is filter, nat or route; Policy is accept or drop.
	Type, Hook, Policy string
	Priority           int
	Rules              []Rule
}

// Base reports whether the kernel calls the chain by itself.
func (c Chain) Base() bool { return c.Hook != "" }

// Rule is one rule.
type Rule struct {
	Handle int
	expr   []any
}

// IPTables reports whether the table is one of those that iptables-nft keeps.
func (t Table) IPTables() bool {
	of := false
	for _, c := range t.Chains {
		if of = of || t.Builtin(c); c.Base() && !t.Builtin(c) {
			return false
		}
	}
	return of
}

// Builtin reports whether a base chain is a builtin one of iptables-nft. iptables-save prints no
// other base chain of the table.
func (t Table) Builtin(c Chain) bool {
	priority, ok := rules.Table(t.Name).Priority(c.Name)
	return ok && (t.Family == "ip" || t.Family == "ip6") && c.Base() && c.Name == strings.ToUpper(c.Hook) && c.Priority == int(priority)
}

// chain finds a chain by its name.
func (t Table) chain(name string) (Chain, bool) {
	for _, c := range t.Chains {
		if c.Name == name {
			return c, true
		}
	}
	return Chain{}, false
}

// object is an entry of nft's list; each has one of the fields.
type object struct {
	Chain *struct {
		Family, Table, Name, Type, Hook, Policy string
		Prio                                    int
	}
	Rule *struct {
		Family, Table, Chain string
		Handle               int
		Expr                 []any
	}
	Set, Map *struct {
		Family, Table, Name string
		Elem                []any
	}
	Flowtable *struct {
		Family, Table, Name string
		// Dev is a name, or a list of names.
		Dev any
	}
}

// Parse reads the output of "nft -j list ruleset", or of one table or of chains.
func Parse(text []byte) (Ruleset, error) {
	var list struct{ Nftables []json.RawMessage }
	if err := json.Unmarshal(text, &list); err != nil {
		return Ruleset{}, fmt.Errorf("parse the list of nft: %w", err)
	}
	var r Ruleset
	for i, raw := range list.Nftables {
		var o object
		// Objects of other shapes matter to no packet.
		if err := json.Unmarshal(raw, &o); err != nil {
			return Ruleset{}, fmt.Errorf("parse the list of nft: object %d: %w", i, err)
		}
		switch {
		case o.Chain != nil:
			t := r.table(o.Chain.Family, o.Chain.Table)
			t.Chains = append(t.Chains, Chain{
				Name: o.Chain.Name, Type: o.Chain.Type, Hook: o.Chain.Hook, Policy: o.Chain.Policy, Priority: o.Chain.Prio,
			})
		case o.Rule != nil:
			t := r.table(o.Rule.Family, o.Rule.Table)
			for j := range t.Chains {
				if t.Chains[j].Name == o.Rule.Chain {
					t.Chains[j].Rules = append(t.Chains[j].Rules, Rule{o.Rule.Handle, o.Rule.Expr})
				}
			}
		case o.Flowtable != nil:
			t := r.table(o.Flowtable.Family, o.Flowtable.Table)
			t.Flowtables = append(t.Flowtables, Flowtable{o.Flowtable.Name, namesOf(o.Flowtable.Dev)})
		case o.Set != nil:
			r.table(o.Set.Family, o.Set.Table).sets[o.Set.Name] = o.Set.Elem
		case o.Map != nil:
			r.table(o.Map.Family, o.Map.Table).sets[o.Map.Name] = o.Map.Elem
		}
	}
	return r, nil
}

// namesOf returns the names of a value that is one, or a list of them.
func namesOf(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var names []string
		for _, one := range v {
			names = append(names, namesOf(one)...)
		}
		return names
	}
	return nil
}

// table returns the table of that name, which is made if there is none.
func (r *Ruleset) table(family, name string) *Table {
	for i := range r.Tables {
		if t := &r.Tables[i]; t.Family == family && t.Name == name {
			return t
		}
	}
	r.Tables = append(r.Tables, Table{Family: family, Name: name, sets: make(map[string][]any)})
	return &r.Tables[len(r.Tables)-1]
}
