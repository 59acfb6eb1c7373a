package memory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

const (
	schema = 1
	// maxSize and maxGuards bound the work for one file, and maxConnection the length of a
	// name.
	maxSize       = 16 << 20
	maxGuards     = 50000
	maxConnection = 256
)

// file is the file's form. A version that reads no more than "schema" and "guards", and
// takes other keys for damage, sets the file aside and learns the pairs anew.
type file struct {
	Schema int    `json:"schema"`
	Clock  *clock `json:"clock,omitempty"`
	// Saved tells, in the copy of the run directory, that the state directory had the
	// same.
	Saved  bool     `json:"saved,omitzero"`
	Guards []record `json:"guards"`
}

// record is one guard in the file.
type record struct {
	Local      netip.Prefix   `json:"local"`
	Remote     netip.Prefix   `json:"remote"`
	Proto      xfrm.Proto     `json:"proto,omitzero"`
	LocalPort  xfrm.PortMatch `json:"local_port,omitzero"`
	RemotePort xfrm.PortMatch `json:"remote_port,omitzero"`
	Exception  bool           `json:"pierce,omitzero"`
	Dirs       uint8          `json:"dirs,omitzero"`
	Peer       netip.Addr     `json:"peer,omitzero"`
	Tunnel     string         `json:"tunnel"`
	Connection string         `json:"connection,omitzero"`
	Priority   uint32         `json:"priority"`
	Routed     bool           `json:"routed,omitzero"`
	Since      int64          `json:"since"`
	Expires    int64          `json:"expires"`
}

// text is the content of a file.
type text struct {
	guards []guard.Guard
	clock  *clock
	saved  bool
	// damage is why some of it is not understood, or nil.
	damage error
}

// parse reads a file. A damaged entry costs itself only; keys that a later
// version has added are skipped.
func parse(b []byte) text {
	var t text
	d := json.NewDecoder(bytes.NewReader(b))
	t.damage = t.parse(d)
	if _, err := d.Token(); t.damage == nil && err == nil {
		t.damage = errors.New("more after its end")
	}
	return t
}

func (t *text) parse(d *json.Decoder) error {
	if err := delimiter(d, '{'); err != nil {
		return err
	}
	var damage error
	version := 0
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		switch key {
		case "schema":
			err = skip(d, &version)
		case "clock":
			err = skip(d, &t.clock)
		case "saved":
			err = skip(d, &t.saved)
		case "guards":
			err = t.parseGuards(d)
		default:
			err = skip(d, new(json.RawMessage))
		}
		if err != nil && damage == nil {
			damage = err
		}
		var cut *json.SyntaxError
		if errors.As(err, &cut) {
			return err
		}
	}
	if t.clock != nil && (t.clock.Observed < 0 || t.clock.Uptime < 0) {
		t.clock, damage = nil, errors.Join(damage, errors.New("its clock makes no sense"))
	}
	if version != schema && damage == nil {
		damage = fmt.Errorf("schema %d is not %d", version, schema)
	}
	return errors.Join(damage, delimiter(d, '}'))
}

// skip reads a value, and goes on behind it if it is of another type.
func skip(d *json.Decoder, v any) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

func delimiter(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err == nil && got != want {
		err = &json.SyntaxError{Offset: d.InputOffset()}
	}
	if err != nil {
		return fmt.Errorf("no %s: %w", want, err)
	}
	return nil
}

// parseGuards reads the list of guards. The error is of the first that is none.
func (t *text) parseGuards(d *json.Decoder) error {
	if err := delimiter(d, '['); err != nil {
		return err
	}
	var damage error
	for n := 1; d.More(); n++ {
		if n > maxGuards {
			return &json.SyntaxError{Offset: d.InputOffset()}
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return fmt.Errorf("guard %d: %w", n, err)
		}
		var r record
		problem := ""
		if err := json.Unmarshal(raw, &r); err != nil {
			problem = err.Error()
		} else {
			problem = r.problem()
		}
		if problem == "" {
			t.guards = append(t.guards, r.guard())
		} else if damage == nil {
			damage = fmt.Errorf("guard %d: %s", n, problem)
		}
	}
	return errors.Join(damage, delimiter(d, ']'))
}

// guard returns the guard that a record stands for.
func (r record) guard() guard.Guard {
	return guard.Guard{
		Local: r.Local, Remote: r.Remote, Proto: r.Proto, LocalPort: r.LocalPort, RemotePort: r.RemotePort,
		Exception: r.Exception, Dirs: r.Dirs, Source: guard.FromMemory, Peer: r.Peer, Tunnel: r.Tunnel, Connection: r.Connection,
		Priority: r.Priority, Routed: r.Routed, Since: r.Since, Expires: r.Expires,
	}
}

// encode returns the text of a file.
func (f file) encode(guards []guard.Guard) ([]byte, error) {
	f.Schema, f.Guards = schema, make([]record, 0, len(guards))
	for _, g := range guards {
		f.Guards = append(f.Guards, record{
			Local: g.Local, Remote: g.Remote, Proto: g.Proto, LocalPort: g.LocalPort, RemotePort: g.RemotePort,
			Exception: g.Exception, Dirs: g.Dirs, Peer: g.Peer, Tunnel: g.Tunnel, Connection: g.Connection,
			Priority: g.Priority, Routed: g.Routed, Since: g.Since, Expires: g.Expires,
		})
	}
	b, err := json.MarshalIndent(f, "", " ")
	return append(b, '\n'), err
}

// problem says why a record can't be a guard, or nothing.
func (r record) problem() string {
	_, _, local := r.LocalPort.Range()
	_, _, remote := r.RemotePort.Range()
	switch {
	case !r.Local.IsValid(), !r.Remote.IsValid():
		return "a prefix is missing"
	case r.Local != r.Local.Masked(), r.Remote != r.Remote.Masked():
		return "a prefix has bits beyond its length"
	case r.Local.Addr().Is4() != r.Remote.Addr().Is4():
		return "its prefixes are of two families"
	case r.Local.Addr().Is4In6(), r.Remote.Addr().Is4In6():
		return "a prefix is of IPv4 in IPv6"
	case r.Remote.Bits() == 0 && !r.Exception:
		return "its remote is everything"
	case !local, !remote, (!r.LocalPort.Any() || !r.RemotePort.Any()) && !ported(r.Proto):
		return "its ports are none"
	case r.Dirs > 7, r.Peer.Zone() != "", r.Since < 0, r.Expires < 0:
		return "its numbers make no sense"
	case !isTunnel(r.Tunnel):
		return "it has no tunnel's ID"
	case len(r.Connection) > maxConnection, strings.ContainsFunc(r.Connection, func(c rune) bool { return !unicode.IsPrint(c) }):
		return "its connection is no name"
	}
	return ""
}

// isTunnel reports whether a text is a tunnel's ID: "t" and 10 hexadecimal digits,
// and another 4 where several tunnels would have the same.
func isTunnel(id string) bool {
	digits, isID := strings.CutPrefix(id, "t")
	first, second, several := strings.Cut(digits, "-")
	hex := func(text string, n int) bool { return len(text) == n && strings.Trim(text, "0123456789abcdef") == "" }
	return isID && hex(first, 10) && (!several || hex(second, 4))
}

func ported(p xfrm.Proto) bool {
	switch p {
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP, xfrm.ICMP, xfrm.ICMPv6:
		return true
	}
	return false
}
