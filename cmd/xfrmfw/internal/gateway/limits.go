package gateway

import (
	"cmp"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/limit"
)

// Excess returns the limits that were reached: those of the rules, of the records of the
// updown hook, and of the memory as the next reconcile writes it.
func (g *Gateway) Excess(l Look) []limit.Excess {
	all := slices.Concat(l.Result.Excess, g.recordsExcess())
	if l.Config.Guard.Forget || g.FromSnapshot() {
		return all
	}
	return append(all, memoryExcess(remembered(l))...)
}

// remembered is the memory after a look.
func remembered(l Look) guard.Remembered {
	held := l.Live.Memory
	return guard.Remember(held.Guards, l.Result.InForce(), l.Set, l.Snapshot.Host, connections(l.Peers), l.Config.Guard, held.Now)
}

func memoryExcess(r guard.Remembered) []limit.Excess {
	if r.Refused == 0 {
		return nil
	}
	return []limit.Excess{{
		Object: "pairs for the memory", Count: len(r.Guards) + r.Refused, Most: len(r.Guards),
		Effect: "the newest are guarded only while their policies stand", Remedy: "name them under guard: pairs:",
	}}
}

// recordsExcess is about the records that were loaded last.
func (g *Gateway) recordsExcess() []limit.Excess {
	if g.peers == nil {
		return nil
	}
	var all []limit.Excess
	for _, s := range g.peers.Full() {
		all = append(all, limit.Excess{
			Object: "records of the updown hook of " + cmp.Or(s.Of, "all peers"), Count: s.Count, Most: s.Most,
			Effect: "the next ones are refused, and their tunnels get the rights of an unknown peer", Remedy: "end the connections that make them",
		})
	}
	return all
}

// inWords returns one line for each limit.
func inWords(reached []limit.Excess) []string {
	lines := make([]string, len(reached))
	for i, e := range reached {
		lines[i] = e.String()
	}
	return lines
}

// MemoryWarnings are those of the memory that the next reconcile would give.
func (g *Gateway) MemoryWarnings(l Look) []string {
	if l.Config.Guard.Forget || g.FromSnapshot() {
		return nil
	}
	return inWords(memoryExcess(remembered(l)))
}
