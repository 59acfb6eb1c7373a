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

// Forgettable selects remembered pairs: those of a tunnel, or those with a remote network that
// lies in a prefix.
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

func (f Forgettable) selects(g guard.Guard) bool {
	p := f.prefix
	return g.Tunnel == f.word || p.IsValid() && p.Bits() <= g.Remote.Bits() && p.Overlaps(g.Remote)
}

// Forget takes pairs out of the memory, and returns their number and a warning of reading
// the memory. The rules are as before, until an apply. It takes the lock.
func Forget(ctx context.Context, g *gateway.Gateway, f Forgettable) (pairs int, warning string, err error) {
	unlock, err := g.Dirs().Lock(ctx, "apply")
	if err != nil {
		return 0, "", err
	}
	defer unlock()
	store, err := memory.In(g.Dirs())
	if err != nil {
		return 0, "", err
	}
	held := store.Load()
	kept := slices.DeleteFunc(slices.Clone(held.Guards), f.selects)
	if pairs = len(held.Guards) - len(kept); pairs == 0 {
		return 0, held.Warning, fmt.Errorf("nothing is remembered of %q: xfrmfw status lists what is guarded, and from where", f.word)
	}
	return pairs, held.Warning, store.Save(kept, linesOf(held.Lines, kept), held.Now)
}

// linesOf returns the lines to networks of the pairs that are left.
func linesOf(lines []guard.Line, kept []guard.Guard) []guard.Line {
	return slices.DeleteFunc(slices.Clone(lines), func(l guard.Line) bool {
		return !slices.ContainsFunc(kept, func(g guard.Guard) bool { return g.Remote.Overlaps(l.Network) })
	})
}
