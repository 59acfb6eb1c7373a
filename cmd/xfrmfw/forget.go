package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/confirm"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/interrupt"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/memory"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
)

func forgetCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "forget TUNNEL|PREFIX",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("forget wants one tunnel ID or prefix; xfrmfw status lists what is guarded")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return forget(cmd.Context(), o, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

func forget(ctx context.Context, o *options, word string, stdout, stderr io.Writer) error {
	prefix, err := netip.ParsePrefix(word)
	if err != nil {
		if a, err := netip.ParseAddr(word); err == nil {
			prefix = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if prefix != prefix.Masked() {
		return usageError(fmt.Sprintf("%s has bits behind the prefix: write %s", word, prefix.Masked()))
	}
	g, err := gateway.Open(ctx, o.gateway(""))
	if err != nil {
		return err
	}
	ctx, stop := interrupt.Context(ctx)
	defer stop()
	unlock, err := o.dirs().Lock(ctx, "apply")
	if err != nil {
		return err
	}
	store, err := memory.In(o.dirs())
	if err != nil {
		unlock()
		return err
	}
	held := store.Load()
	if held.Warning != "" {
		_, _ = fmt.Fprintln(stderr, "xfrmfw: warning: "+held.Warning)
	}
	kept := slices.DeleteFunc(slices.Clone(held.Guards), func(g firewall.Guard) bool {
		return g.Tunnel == word || prefix.IsValid() && prefix.Bits() <= g.Remote.Bits() && prefix.Overlaps(g.Remote)
	})
	if len(kept) == len(held.Guards) {
		unlock()
		return fmt.Errorf("nothing is remembered of %q: xfrmfw status lists what is guarded, and from where", word)
	}
	err = store.Save(kept, held.Now)
	unlock()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "forgotten: %s\n", text.Count(len(held.Guards)-len(kept), "pair")); err != nil {
		return err
	}
	out, err := confirm.Reconcile(ctx, g, "apply", true)
	if err != nil {
		return err
	}
	warn(stderr, out.AllWarnings())
	_, err = fmt.Fprintln(stdout, out)
	return err
}
