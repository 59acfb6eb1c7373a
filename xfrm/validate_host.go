package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

const (
	maxLinkName = 15 // IFNAMSIZ without the closing zero
	maxKind     = 64
)

func (h *Host) validate() error {
	seen := make(map[int32]bool, len(h.Links))
	for i, l := range h.Links {
		if err := l.Validate(); err != nil {
			return fmt.Errorf("link %d: %w", i, err)
		}
		if seen[l.Index] {
			return fmt.Errorf("link %d: index %d occurs twice", i, l.Index)
		}
		seen[l.Index] = true
	}
	for i, a := range h.Addresses {
		if a.Link <= 0 || !a.Prefix.IsValid() {
			return fmt.Errorf("address %d: no valid link index or prefix", i)
		}
	}
	for i, r := range h.Routes {
		if err := r.validate(); err != nil {
			return fmt.Errorf("route %d: %w", i, err)
		}
	}
	for i, a := range h.Resolvers {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
			return fmt.Errorf("resolver %d: no plain address", i)
		}
	}
	return nil
}

// Validate reports the reason why a link is unfit for a Snapshot. The kernel allows
// names that break this: quotes and control characters have no place in a rule.
func (l Link) Validate() error {
	switch {
	case l.Index <= 0:
		return fmt.Errorf("index %d is not positive", l.Index)
	case l.Name == "" || len(l.Name) > maxLinkName || !token(l.Name) || strings.ContainsAny(l.Name, "/\"'`\\"):
		return fmt.Errorf("name %q is not supported", l.Name)
	case len(l.Kind) > maxKind || !token(l.Kind):
		return fmt.Errorf("kind %q is not supported", l.Kind)
	case l.Master < 0 || l.Parent < 0 || l.MTU < 0:
		return errors.New("master, parent or MTU is negative")
	case l.Local.Zone() != "" || l.Remote.Zone() != "":
		return errors.New("outer address has a zone")
	}
	return nil
}

func (r Route) validate() error {
	switch {
	case !r.Dst.IsValid():
		return errors.New("no destination")
	case r.Dst != r.Dst.Masked():
		return fmt.Errorf("destination %s has bits beyond its length", r.Dst)
	case r.Link < 0:
		return fmt.Errorf("link index %d is negative", r.Link)
	case r.Via.Zone() != "":
		return fmt.Errorf("gateway %s has a zone", r.Via)
	case r.Connected && r.Via != (netip.Addr{}):
		return fmt.Errorf("connected route has the gateway %s", r.Via)
	}
	return nil
}
