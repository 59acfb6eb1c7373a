package reconcile

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/memory"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
)

// Forgettable selects what is remembered: the pairs of a tunnel, or the pairs and lines of the
// networks within a prefix.
type Forgettable struct {
	word   string
	prefix netip.Prefix // invalid for a tunnel
}

// ParseForgettable reads a tunnel ID, a prefix or an address. The error is of a word with
// a slash that is no prefix, and of a prefix with bits behind it.
func ParseForgettable(word string) (Forgettable, error) {
	prefix, err := netip.ParsePrefix(word)
	if err != nil {
		if strings.Contains(word, "/") {
			return Forgettable{}, fmt.Errorf("%q is no prefix: write one such as 10.1.0.0/24", word)
		}
		if a, err := netip.ParseAddr(word); err == nil {
			prefix = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if prefix != prefix.Masked() {
		return Forgettable{}, fmt.Errorf("%s has bits behind the prefix: write %s", word, prefix.Masked())
	}
	return Forgettable{word, prefix}, nil
}

func (f Forgettable) selects(g guard.Guard) bool { return g.Tunnel == f.word || f.covers(g.Remote) }

// covers reports whether a network lies in the prefix.
func (f Forgettable) covers(network netip.Prefix) bool {
	return f.prefix.IsValid() && f.prefix.Bits() <= network.Bits() && f.prefix.Overlaps(network)
}

// Forgotten is how much was taken out of the memory.
type Forgotten struct{ Pairs, Lines int }

// Forget takes pairs out of the memory, and the lines to their networks or within the
// prefix. The warning is of reading the memory. The rules are as before, until an apply.
// It takes the lock.
func Forget(ctx context.Context, g *gateway.Gateway, f Forgettable) (forgotten Forgotten, warning string, err error) {
	unlock, err := g.Dirs().Lock(ctx, "apply")
	if err != nil {
		return forgotten, "", err
	}
	defer unlock()
	store, err := memory.In(g.Dirs())
	if err != nil {
		return forgotten, "", err
	}
	held := store.Load()
	guards := slices.DeleteFunc(slices.Clone(held.Guards), f.selects)
	lines := slices.DeleteFunc(slices.Clone(held.Lines), func(l guard.Line) bool {
		return f.covers(l.Network) || !slices.ContainsFunc(guards, func(g guard.Guard) bool { return g.Remote.Overlaps(l.Network) })
	})
	forgotten = Forgotten{len(held.Guards) - len(guards), len(held.Lines) - len(lines)}
	if forgotten.Pairs == 0 && !slices.ContainsFunc(held.Lines, func(l guard.Line) bool { return f.covers(l.Network) }) {
		return Forgotten{}, held.Warning, fmt.Errorf("nothing is remembered of %q: xfrmfw status lists the guarded pairs", f.word)
	}
	return forgotten, held.Warning, store.Save(guards, lines, held.Now)
}
