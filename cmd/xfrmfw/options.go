package main

import (
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
)

// options are the flags that all commands share.
type options struct {
	config   string
	variant  string
	engine   string
	runDir   string
	stateDir string
	// explicit is true if --config was given: the file has to exist.
	explicit bool
}

// dirs are the directories that the commands write to.
func (o *options) dirs() rundir.Dirs { return rundir.Dirs{Run: o.runDir, State: o.stateDir} }

// gateway are the options of the gateway, with a snapshot in place of the kernel if one
// is named.
func (o *options) gateway(snapshot string) gateway.Options {
	return gateway.Options{Dirs: o.dirs(), Config: o.config, Explicit: o.explicit, Variant: iptables.Variant(o.variant), Engine: engine.Name(o.engine), Snapshot: snapshot}
}

// report is gateway for commands that report on the rules in force.
func (o *options) report(snapshot string) gateway.Options {
	g := o.gateway(snapshot)
	g.Trust = gateway.TrustInForce
	return g
}

// byHand is gateway for the user's own apply, with the file's configuration.
func (o *options) byHand(snapshot string) gateway.Options {
	g := o.gateway(snapshot)
	g.Trust = gateway.TrustFile
	return g
}

const (
	defaultConfig   = "/etc/xfrmfw/xfrmfw.yaml"
	defaultRunDir   = "/run/xfrmfw"
	defaultStateDir = "/var/lib/xfrmfw"
)
