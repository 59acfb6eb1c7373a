// Package engine lays facts out for the kernel in one of two ways: as rules of iptables,
// with a small table of nftables beside them, or as a table of nftables, with a few accepts
// in iptables. All other packages handle both parts alike: they read, compare, commit and
// clear rules and table, either of which may be empty.
package engine

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/accept"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
)

// Name is the name of an engine.
type Name string

// The engines.
const (
	IPTables Name = "iptables"
	NFTables Name = "nftables"
)

// Names are all engines.
func Names() []string { return []string{string(IPTables), string(NFTables)} }

// Known reports whether there is an engine of the name.
func (n Name) Known() bool { return slices.Contains(Names(), string(n)) }

// Accept is the place where the nftables engine has verified packets accepted, because an accept
// in its own table ends its own base chain alone.
type Accept string

// The ways to accept.
const (
	// AcceptAuto is in iptables where its programs are found, else none.
	AcceptAuto Accept = "auto"
	// AcceptIPTables is in iptables: its programs have to be installed.
	AcceptIPTables Accept = "iptables"
	// AcceptNone leaves it to the host's own rules.
	AcceptNone Accept = "none"
)

// Engine is one way to lay facts out. Its methods are pure.
type Engine interface {
	Name() Name
	// Rules returns the rules of iptables for each family.
	Rules(firewall.Facts) []rules.Ruleset
	// Table returns the table of nftables.
	Table(*firewall.Facts) sets.Table
	// TableDecides reports whether the table has the verdicts. They come first when a change
	// takes several commits.
	TableDecides() bool
}

// Options say how an engine lays facts out.
type Options struct {
	Accept Accept
	// Companion is true if the kernel has nf_tables, so that the iptables engine has its
	// table beside the rules.
	Companion bool
}

// New returns the engine of a name; that of an unknown name is IPTables.
func New(n Name, o Options) Engine {
	if n == NFTables {
		return nftables{o.Accept}
	}
	return iptables{o.Companion}
}

// iptables has a companion. Behind SNAT of all programs it guards the packets as they
// leave, and before them it exempts tunnel traffic from NAT. iptables has no hook in
// either place.
type iptables struct{ companion bool }

func (iptables) Name() Name { return IPTables }

func (i iptables) Rules(f firewall.Facts) []rules.Ruleset {
	if i.companion {
		f.Guards = behindNAT(f.Guards)
	}
	return compile.Rulesets(f)
}

// behindNAT leaves to the companion the guards that the destination alone decides while a
// policy stands (case 8d). A packet that NAT maps into the selector goes to the kernel
// then, which holds it until the tunnel is up.
func behindNAT(guards []firewall.GuardFacts) []firewall.GuardFacts {
	guards = slices.Clone(guards)
	for i := range guards {
		guards[i].ByDestination = guards[i].ByDestination && !guards[i].Held
	}
	return guards
}

func (i iptables) Table(f *firewall.Facts) sets.Table {
	if !i.companion {
		return sets.Table{}
	}
	return program.Companion(f)
}

func (iptables) TableDecides() bool { return false }

type nftables struct{ accept Accept }

func (nftables) Name() Name { return NFTables }

func (n nftables) Rules(f firewall.Facts) []rules.Ruleset {
	if n.accept == AcceptNone {
		return nil
	}
	return accept.Rulesets(f)
}

func (nftables) Table(f *firewall.Facts) sets.Table {
	return program.Table(f, program.Options{})
}

func (nftables) TableDecides() bool { return true }
