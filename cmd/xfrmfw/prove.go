package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor/gather"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/proof"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

func proveCommand(o *options) *cobra.Command {
	var verbose, asJSON bool
	var file string
	cmd := &cobra.Command{
		Use:  "prove",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := gateway.Open(cmd.Context(), o.report(file))
			if err != nil {
				return err
			}
			look, err := g.Look(cmd.Context())
			if err != nil {
				return err
			}
			list := []proof.Subject{wantedSubject(look)}
			warnings := look.AllWarnings()
			if live := liveSubject(look); !g.FromSnapshot() && live.Stands() {
				live, missing := beside(cmd.Context(), g.Programs(), look, live)
				list, warnings = subjects(look, list[0], live), append(warnings, missing...)
			}
			defer collectOften()()
			step, end := proof.Progress(cmd.ErrOrStderr())
			r := proof.Make(&look.Result.Facts, look.Input(), list, step)
			end()
			r.Warnings = append(r.Warnings, warnings...)
			if asJSON {
				err = text.WriteJSON(cmd.OutOrStdout(), r)
			} else {
				warn(cmd.ErrOrStderr(), r.Warnings)
				err = r.WriteText(cmd.OutOrStdout(), verbose)
			}
			if err == nil && !r.Holds {
				err = errFindings
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "list all properties, each with the packets that it leaves out")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	cmd.Flags().StringVar(&file, "snapshot", "", "read a `file` of xfrmfw snapshot in place of the kernel and the live rules")
	return cmd
}

// collectOften makes the process search for garbage more often, unless its environment says
// how often, until the returned function is called. A proof leaves much behind and holds much
// that has no pointers to follow: 1,000 tunnels take a third of the memory and no more time.
func collectOften() (restore func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(25)
	return func() { debug.SetGCPercent(before) }
}

// beside adds other programs' tables of nftables, and their rules of the other variant of iptables,
// to the live rules.
func beside(ctx context.Context, p *iptables.Programs, look gateway.Look, live proof.Subject) (proof.Subject, []string) {
	var missing []string
	rival, saved := iptables.Rival{}, look.Live.Rules
	if p != nil {
		var err error
		if rival, err = p.Other(ctx); err != nil {
			missing = append(missing, fmt.Sprintf("the rules of the other iptables variant are no part of the proof: %v", err))
		}
		if p.Variant() == iptables.Legacy {
			saved = rival.Live
		}
	}
	tables, err := gather.Tables(ctx, append(gather.OfIP(), "bridge", "netdev"), func(t foreign.Table) bool {
		family := map[string]xfrm.Family{"ip": xfrm.IPv4, "ip6": xfrm.IPv6}[t.Family]
		return t.IPTables() && saved[family].Has(rules.Table(t.Name))
	})
	if err != nil {
		missing = append(missing, fmt.Sprintf("the tables of nftables of other programs are no part of the proof: %v", err))
	}
	return live.Beside(tables, saved, rival.Live, "iptables-"+string(rival.Variant), look.Config.Marks), missing
}

// subjects are the wanted rules and, where those that stand differ, those too. Rules that
// stand as wanted are asked once, as live ones if others stand around them.
func subjects(look gateway.Look, wanted, live proof.Subject) []proof.Subject {
	switch {
	case look.InSync() && len(live.Others) == 0:
		return []proof.Subject{wanted}
	case look.InSync():
		return []proof.Subject{live}
	}
	return []proof.Subject{wanted, live}
}

func wantedSubject(look gateway.Look) proof.Subject {
	s := proof.Subject{Name: "wanted", Table: look.Table}
	if look.Engine == engine.IPTables {
		s.Rules = look.Result.Rulesets
	}
	return s
}

// liveSubject is the rules in force of either engine, the table alone where it decides, and
// the rules of iptables of other programs. Rules that these changed are theirs.
func liveSubject(look gateway.Look) proof.Subject {
	s := proof.Subject{Name: "live", Table: look.Live.Table.Table, Others: make(map[xfrm.Family][]live.Other)}
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		if others := live.Others(family, look.Live.Rules[family]); len(others) > 0 {
			s.Others[family] = others
		}
	}
	if _, decides := s.Table.Chain(program.Decides); decides {
		return s
	}
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		if family == xfrm.IPv6 && look.Result.Facts.NoIPv6 {
			continue
		}
		standing, _ := live.Standing(family, look.Live.Rules[family])
		s.Rules = append(s.Rules, standing)
	}
	return s
}

func devices(host xfrm.Host) []string {
	names := make([]string, len(host.Links))
	for i, l := range host.Links {
		names[i] = l.Name
	}
	return names
}
