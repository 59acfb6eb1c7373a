package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
)

func checkCommand(o *options) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:  "check",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := gateway.Open(cmd.Context(), o.report(""))
			if err != nil {
				return err
			}
			look, err := g.Look(cmd.Context())
			if err != nil {
				return err
			}
			warn(cmd.ErrOrStderr(), look.AllWarnings())
			out, differences := cmd.OutOrStdout(), look.Change.Differences
			if look.Change.Empty() {
				_, err := fmt.Fprintf(out, "in sync: %s\n", text.Count(len(look.Set.Tunnels), "tunnel"))
				return err
			}
			answer := fmt.Sprintf("out of sync: %s. Repair with: xfrmfw apply", text.Count(len(differences), "difference"))
			rules, unloaded := notLoaded(look.Result.Rulesets, differences)
			if unloaded {
				answer = fmt.Sprintf("not loaded: none of the %s is in place. Load them with: xfrmfw apply", text.Count(rules, "rule"))
			}
			if !unloaded || verbose {
				for _, d := range differences {
					if _, err := fmt.Fprintln(out, d); err != nil {
						return err
					}
				}
			}
			if _, err := fmt.Fprintln(out, answer); err != nil {
				return err
			}
			return errFindings
		},
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "list the missing rules too where none is loaded")
	return cmd
}

// notLoaded returns the number of wanted rules, and whether all of them are missing and nothing else differs: the host
// has no rules of xfrmfw.
func notLoaded(wanted []rules.Ruleset, differences []plan.Difference) (int, bool) {
	rules := 0
	for _, rs := range wanted {
		for _, chain := range rs.Chains {
			rules += chain.Rules.Len()
		}
	}
	missing := 0
	for _, d := range differences {
		switch d.Kind {
		case plan.RuleMissing:
			missing++
		case plan.ChainMissing, plan.JumpMissing:
		default:
			return rules, false
		}
	}
	return rules, missing == rules
}
