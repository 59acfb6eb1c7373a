package main

import (
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/nftables"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// tableOf is the table for a snapshot.
func tableOf(s xfrm.Snapshot) sets.Table {
	f := decide.Facts(input(s))
	return program.Table(&f, program.Options{})
}

// replace puts a table in the place of the one that is there.
func replace(c *nftables.Conn, want sets.Table) (generation uint32, err error) {
	s, err := c.Read(program.Name)
	if err != nil {
		return 0, err
	}
	if s.Table.Name != "" {
		if s.Generation, err = c.Apply(s, sets.Diff(s.Table, sets.Table{}), sets.Table{}); err != nil {
			return 0, err
		}
	}
	return c.Apply(nftables.State{Generation: s.Generation}, sets.Diff(sets.Table{}, want), want)
}

// inForce puts a table in force in this thread's namespace.
func inForce(want sets.Table) error {
	c, err := nftables.Open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, err = replace(c, want)
	return err
}
