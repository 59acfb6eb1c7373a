package peers

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Kind is the event of a pair of selectors.
type Kind uint8

// The kinds of events. Other is anything that has no record: Libreswan's
// prepare, route and unroute, or a call by hand.
const (
	Other Kind = iota
	Up
	Down
)

// Event is one call of the hook.
type Event struct {
	Kind   Kind
	Record Record
}

// FromEnviron reads the environment of an updown script, as os.Environ gives it:
// that of strongSwan's charon, or of Libreswan's pluto. The record's Boot and
// Time are left to the store.
func FromEnviron(environ []string) (Event, error) {
	v := variables(environ)
	kind := kindOf(v["PLUTO_VERB"])
	if kind == Other {
		return Event{}, nil
	}
	r := Record{
		Connection: clean(v["PLUTO_CONNECTION"]),
		PeerID:     clean(v["PLUTO_PEER_ID"]),
		VirtualIPs: v.virtualIPs(),
		Serial:     v.number("PLUTO_UNIQUEID"),
		OuterPort:  uint16(min(v.number("PLUTO_UDP_ENC"), 65535)),
		Proto:      xfrm.Proto(min(max(v.number("PLUTO_PEER_PROTOCOL"), v.number("PLUTO_MY_PROTOCOL")), 255)),
	}
	r.Outer, _ = netip.ParseAddr(v["PLUTO_PEER"])
	r.Outer = r.Outer.WithZone("").Unmap()
	if text, ok := v["PLUTO_SA_REQID"]; ok {
		r.Daemon, r.User, r.Serial = Libreswan, clean(v["PLUTO_USERNAME"]), 0
		if !number(text, &r.Reqid) {
			return Event{}, problem("PLUTO_SA_REQID", text)
		}
	} else {
		r.Daemon, r.User = StrongSwan, clean(v["PLUTO_XAUTH_ID"])
		if text := v["PLUTO_REQID"]; !number(text, &r.Reqid) {
			return Event{}, problem("PLUTO_REQID", text)
		}
	}
	for name, into := range map[string]*netip.Prefix{"PLUTO_MY_CLIENT": &r.Local, "PLUTO_PEER_CLIENT": &r.Remote} {
		p, err := netip.ParsePrefix(v[name])
		if err != nil || p.Addr().Is4In6() {
			return Event{}, problem(name, v[name])
		}
		*into = p.Masked()
	}
	if r.Local.Addr().Is4() != r.Remote.Addr().Is4() {
		return Event{}, errors.New("read the environment: the selectors are of two families")
	}
	for name, into := range map[string]*Ports{"PLUTO_MY_PORT": &r.LocalPort, "PLUTO_PEER_PORT": &r.RemotePort} {
		// A record with a port that does not parse is kept, because the ports of the tunnel come from the kernel.
		*into, _ = parsePorts(v[name])
	}
	if err := r.valid(); err != nil {
		return Event{}, fmt.Errorf("read the environment: %w", err)
	}
	return Event{kind, r}, nil
}

// problem names a variable that can't be read, and little of its value.
func problem(name, text string) error {
	text = clean(text)
	if text == "" {
		return fmt.Errorf("read the environment: no %s: the peer stays unknown", name)
	}
	return fmt.Errorf("read the environment: %s is %.60q: the peer stays unknown", name, text)
}

// values are the variables that matter.
type values map[string]string

// variables picks the variables that IKE daemons set. Of two of the same name
// the first counts, as for getenv.
func variables(environ []string) values {
	v := make(values)
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if !ok || !strings.HasPrefix(name, "PLUTO_") {
			continue
		}
		if _, again := v[name]; !again {
			v[name] = value
		}
	}
	return v
}

// kindOf reads a verb: up-client, down-host-v6 and so on.
func kindOf(verb string) Kind {
	act, of, _ := strings.Cut(verb, "-")
	switch strings.TrimSuffix(of, "-v6") {
	case "host", "client":
	default:
		return Other
	}
	switch act {
	case "up":
		return Up
	case "down":
		return Down
	}
	return Other
}

// number is a variable's number, 0 if it has none.
func (v values) number(name string) (n uint32) {
	number(v[name], &n)
	return n
}

func number(text string, into *uint32) bool {
	n, err := strconv.ParseUint(text, 10, 32)
	if err == nil {
		*into = uint32(n)
	}
	return err == nil
}

// virtualIPs are the addresses that were given to the peer, in their order.
// Libreswan names none; there the peer's selector is the address.
func (v values) virtualIPs() []netip.Addr {
	list := []netip.Addr{}
	for _, family := range []string{"4", "6"} {
		for i := 1; i <= maxVirtualIPs/2; i++ {
			a, err := netip.ParseAddr(v[fmt.Sprintf("PLUTO_PEER_SOURCEIP%s_%d", family, i)])
			if err != nil {
				break
			}
			list = append(list, a.WithZone("").Unmap())
		}
	}
	return list
}

// parsePorts reads 0 for any, one port, or a range a:b.
func parsePorts(text string) (Ports, bool) {
	low, high, isRange := strings.Cut(text, ":")
	if !isRange {
		high = low
	}
	lo, err := strconv.ParseUint(low, 10, 16)
	hi, err2 := strconv.ParseUint(high, 10, 16)
	if err != nil || err2 != nil || lo > hi {
		return Ports{}, false
	}
	if lo == 0 && hi == 65535 {
		hi = 0
	}
	return Ports{uint16(lo), uint16(hi)}, true
}
