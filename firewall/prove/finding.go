package prove

import (
	"iter"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Finding is a property that does not hold, with a packet that breaks it.
type Finding struct {
	Property Property
	Family   xfrm.Family
	Packet   firewall.Passage
	// By are the rules and base chains of other programs that break the property.
	By []string
}

// Prove asks a firewall for all properties. In is the host as it was read, from which the
// facts were decided; properties of the kernel go by it alone. Others are the rules of other programs that
// stand around its rules. Those properties that say what is dropped, verified or rewritten
// must hold whatever these do. After each property it calls done, if that is not nil.
func Prove(w *evaluate.Firewall, f *firewall.Facts, in firewall.Input, others []live.Other, done func()) []Finding {
	return slices.Collect(findings(w, f, in, others, done, every...))
}

// Ways are those of packets, in the order in which Prove asks for them.
func Ways() []firewall.Way { return slices.Clone(every) }

// ProveOn is Prove for the packets of one way. Little that is known of one way helps with
// another, so a firewall for each needs less memory than one for all.
func ProveOn(way firewall.Way, w *evaluate.Firewall, f *firewall.Facts, in firewall.Input, others []live.Other, done func()) []Finding {
	return slices.Collect(findings(w, f, in, others, done, way))
}

func findings(w *evaluate.Firewall, f *firewall.Facts, in firewall.Input, others []live.Other, done func(), ways ...firewall.Way) iter.Seq[Finding] {
	return func(yield func(Finding) bool) {
		properties := Properties()
		for _, way := range ways {
			q := ask(w, f, in, way, others)
			for _, p := range properties {
				if slices.Contains(p.ways, way) {
					q.kept = space.None
					set, by := p.broken(q), []string(nil)
					if set == space.None {
						set, by = q.undone(p.Name)
					}
					if set != space.None && !yield(Finding{p, w.Family, w.Witness(way, set), by}) {
						return
					}
				}
				if done != nil {
					done()
				}
			}
		}
	}
}

// Steps is how often ProveOn calls done.
func Steps() int { return len(Properties()) }
