package main

import (
	"context"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// recountLimit is how long the kernel may take to tell counters, which is a matter
// of milliseconds.
const recountLimit = 5 * time.Second

// recount has the rules that stay in the chains that the change rewrites carry on
// what they have counted by now, and not what they had when all rules were read
// last. What is counted from here to the commit is lost, in these chains alone.
func (g *gateway) recount(ctx context.Context, change firewall.Change) error {
	ctx, cancel := context.WithTimeout(ctx, recountLimit)
	defer cancel()
	for i, step := range change.Steps {
		chains := step.Rewrites()
		if len(chains) == 0 {
			continue
		}
		var counters []kernel.RuleCounter
		var err error
		if g.programs.Variant() == iptables.NFT {
			counters, err = kernel.TableCounters(ctx, step.Family, string(step.Table), chains, firewall.CommentWords)
		} else {
			counters, err = kernel.LegacyCounters(step.Family, string(step.Table), firewall.CommentWords)
		}
		if err != nil {
			return err
		}
		now := make(map[string]firewall.Counter, len(counters))
		for _, c := range counters {
			if id, _, _, ok := firewall.ParseComment(c.Text); ok {
				now[id] = firewall.Counter{Packets: c.Packets, Bytes: c.Bytes}
			}
		}
		change.Steps[i] = step.Recount(now)
	}
	return nil
}
