package memory

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
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

// file is the form of the memory's files. memory.json has schema and guards alone, because
// the versions before the memory had a clock take any other key for damage, of the file and of a
// guard, and go without the guards of such a file. Clock, connections and lines are in a
// second file, which they do not know. The copy of the run directory has everything.
type file struct {
	Schema int    `json:"schema"`
	Clock  *clock `json:"clock,omitempty"`
	// Saved is true, in the copy of the run directory, if the state directory had the
	// same.
	Saved bool `json:"saved,omitzero"`
	// Connections are the names of the remembered tunnels, by their IDs.
	Connections map[string]string `json:"connections,omitempty"`
	Lines       []lineRecord      `json:"lines,omitempty"`
	// Of is the digest of the memory.json that the second file was written with.
	Of     string   `json:"of,omitempty"`
	Guards []record `json:"guards,omitzero"`
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
	Priority   uint32         `json:"priority"`
	Routed     bool           `json:"routed,omitzero"`
	Since      int64          `json:"since"`
	Expires    int64          `json:"expires"`
}

// text is the content of a file, or of several that are one.
type text struct {
	guards      []guard.Guard
	clock       *clock
	connections map[string]string
	lines       []guard.Line
	saved       bool
	of          string
	// apart is true if the first file is of another writing than the second: an older version
	// or a backup has replaced it, with times of another clock.
	apart bool
	// damage is why some of it is not understood, or nil, and damaged names the files.
	damage  error
	damaged []string
}

// parse reads a file. A damaged entry costs itself only; keys that a later
// version has added are skipped.
func parse(b []byte) text {
	var t text
	d := json.NewDecoder(bytes.NewReader(b))
	t.damage = t.parse(d, true)
	if _, err := d.Token(); t.damage == nil && err == nil {
		t.damage = errors.New("text after its end")
	}
	return t
}

// parseHead reads a file up to its guards.
func parseHead(b []byte) text {
	var t text
	if t.damage = t.parse(json.NewDecoder(bytes.NewReader(b)), false); t.damage != nil {
		t.saved = false // all of it is needed
	}
	return t
}

func (t *text) parse(d *json.Decoder, whole bool) error {
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
		case "connections":
			err = t.parseConnections(d)
		case "lines":
			err = t.parseLines(d)
		case "of":
			err = skip(d, &t.of)
		case "guards":
			if !whole {
				return cmp.Or(damage, t.valid(version))
			}
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
	damage = cmp.Or(damage, t.valid(version)) // both are evaluated: an invalid clock goes in any case
	return errors.Join(damage, delimiter(d, '}'))
}

// valid checks the content besides the guards, of a schema.
func (t *text) valid(version int) error {
	if t.clock != nil && (t.clock.Observed < 0 || t.clock.Uptime < 0) {
		t.clock = nil
		return errors.New("its clock is not valid")
	}
	if version != schema {
		return fmt.Errorf("schema %d is not %d", version, schema)
	}
	return nil
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
		return fmt.Errorf("want %s: %w", want, err)
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
		var r record
		var cut *json.SyntaxError
		problem := ""
		switch err := d.Decode(&r); {
		case errors.As(err, &cut), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
			return fmt.Errorf("guard %d: %w", n, err)
		case err != nil: // the decoder is behind the value
			problem = err.Error()
		default:
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

// parseConnections reads the names of tunnels. The error is of the first that is none.
func (t *text) parseConnections(d *json.Decoder) error {
	err := skip(d, &t.connections)
	for _, id := range slices.Sorted(maps.Keys(t.connections)) {
		if name := t.connections[id]; !isTunnel(id) || !isConnection(name) {
			delete(t.connections, id)
			err = cmp.Or(err, fmt.Errorf("the connection of tunnel %.20q is no name", id))
		}
	}
	return err
}

// name gives each guard the connection of its tunnel.
func (t *text) name() {
	for i := range t.guards {
		t.guards[i].Connection = t.connections[t.guards[i].Tunnel]
	}
}

// guard returns the guard that a record stands for, without its connection.
func (r record) guard() guard.Guard {
	return guard.Guard{
		Local: r.Local, Remote: r.Remote, Proto: r.Proto, LocalPort: r.LocalPort, RemotePort: r.RemotePort,
		Exception: r.Exception, Dirs: r.Dirs, Source: guard.FromMemory, Peer: r.Peer, Tunnel: r.Tunnel,
		Priority: r.Priority, Routed: r.Routed, Since: r.Since, Expires: r.Expires,
	}
}

// newFile returns the file that has everything.
func newFile(guards []guard.Guard, lines []guard.Line, c *clock) file {
	f := file{Schema: schema, Clock: c, Guards: make([]record, 0, len(guards)), Connections: make(map[string]string)}
	for _, l := range lines {
		f.Lines = append(f.Lines, lineRecord(l))
	}
	for _, g := range guards {
		if g.Connection != "" {
			f.Connections[g.Tunnel] = g.Connection
		}
		f.Guards = append(f.Guards, record{
			Local: g.Local, Remote: g.Remote, Proto: g.Proto, LocalPort: g.LocalPort, RemotePort: g.RemotePort,
			Exception: g.Exception, Dirs: g.Dirs, Peer: g.Peer, Tunnel: g.Tunnel,
			// A record that ends before it began, as a wrong clock makes it, is damage to the versions without a clock.
			Priority: g.Priority, Routed: g.Routed, Since: min(g.Since, g.Expires), Expires: g.Expires,
		})
	}
	return f
}

// split returns the parts of the file for the state directory: memory.json, and the second file.
func (f file) split() (guards, rest file, err error) {
	guards = file{Schema: f.Schema, Guards: f.Guards}
	b, err := guards.encode()
	return guards, file{Schema: f.Schema, Clock: f.Clock, Connections: f.Connections, Lines: f.Lines, Of: digest(b)}, err
}

// digest identifies the text of a file.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// encode returns the text of a file.
func (f file) encode() ([]byte, error) {
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
		return "its ports are not valid"
	case r.Dirs > 7, r.Peer.Zone() != "", r.Since < 0, r.Expires < 0:
		return "its numbers make no sense"
	case !isTunnel(r.Tunnel):
		return "it has no tunnel's ID"
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

func isConnection(name string) bool {
	return len(name) <= maxConnection && !strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) })
}

func ported(p xfrm.Proto) bool {
	switch p {
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP, xfrm.ICMP, xfrm.ICMPv6:
		return true
	}
	return false
}
