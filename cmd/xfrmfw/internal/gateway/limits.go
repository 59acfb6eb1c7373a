package gateway

import (
	"cmp"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/limit"
)

func memoryExcess(r guard.Remembered) []limit.Excess {
	if r.Refused == 0 {
		return nil
	}
	return []limit.Excess{{
		Object: "pairs for the memory", Count: len(r.Guards) + r.Refused, Most: len(r.Guards),
		Effect: "the newest are guarded only while their policies stand", Remedy: "name them under guard: pairs:",
	}}
}

// recordsExcess is about the records of the updown hook.
func recordsExcess(full []peers.Share) []limit.Excess {
	var all []limit.Excess
	for _, s := range full {
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
