// Package memory keeps the pairs of selectors that are guarded beyond their
// policies on disk. What may be in it is for firewall.Remember to say; here it
// is read, distrusting every byte, and written so that a reader finds the old
// file or the new one, never a part.
package memory

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Store is the memory's file in a state directory. Its copies are one, and several
// may use it at a time.
type Store struct {
	path string
	last *last
}

// In returns the store of a state directory.
func In(dir string) Store { return Store{filepath.Join(dir, "memory.json"), new(last)} }

// last is what a text that was read or written last says: to understand it again
// takes the longer the more guards there are, and the daemon reads it at each turn.
type last struct {
	mu     sync.Mutex
	sum    [sha256.Size]byte
	guards []firewall.Guard
}

func (l *last) keep(text []byte, guards []firewall.Guard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum, l.guards = sha256.Sum256(text), guards
}

// says returns what the text says if it is that one.
func (l *last) says(text []byte) ([]firewall.Guard, bool) {
	sum := sha256.Sum256(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guards, l.sum == sum
}

const (
	schema = 1
	// maxSize and maxGuards bound what a file can make us do.
	maxSize   = 16 << 20
	maxGuards = 50000
)

// file is the file's form.
type file struct {
	Schema int      `json:"schema"`
	Guards []record `json:"guards"`
}

// record is one guard in the file.
type record struct {
	Local      netip.Prefix   `json:"local"`
	Remote     netip.Prefix   `json:"remote"`
	Proto      xfrm.Proto     `json:"proto,omitzero"`
	LocalPort  xfrm.PortMatch `json:"local_port,omitzero"`
	RemotePort xfrm.PortMatch `json:"remote_port,omitzero"`
	Pierce     bool           `json:"pierce,omitzero"`
	Dirs       uint8          `json:"dirs,omitzero"`
	Peer       netip.Addr     `json:"peer,omitzero"`
	Tunnel     string         `json:"tunnel"`
	Priority   uint32         `json:"priority"`
	Routed     bool           `json:"routed,omitzero"`
	Since      int64          `json:"since"`
	Expires    int64          `json:"expires"`
}

// Load reads the memory. Without a file it is empty. A file that is damaged is
// set aside under another name, and the warning says so; it is never trusted in
// part, and never keeps xfrmfw from working. The error is one of reading. Nobody may
// write to the guards.
func (s Store) Load() (guards []firewall.Guard, warning string, err error) {
	d, err := rundir.Open(filepath.Dir(s.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read memory: %w", err)
	}
	defer d.Close()
	text, _, err := d.Read(filepath.Base(s.path), maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read memory: %w", err)
	}
	if guards, ok := s.last.says(text); ok {
		return guards, "", nil
	}
	guards, damage := Parse(text)
	if damage == nil {
		s.last.keep(text, guards)
		return guards, "", nil
	}
	aside := fmt.Sprintf("%s.damaged-%d", s.path, time.Now().Unix())
	if err := d.Rename(filepath.Base(s.path), filepath.Base(aside)); err != nil {
		return nil, "", fmt.Errorf("set damaged memory aside: %w", err)
	}
	return nil, fmt.Sprintf("the memory of guarded pairs is damaged (%v) and was set aside as %s: pairs are guarded again as their tunnels come up", damage, aside), nil
}

// Parse reads the text of a memory file. All of it is right or there is an error.
func Parse(text []byte) ([]firewall.Guard, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var f file
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("more after its end")
	}
	if f.Schema != schema {
		return nil, fmt.Errorf("schema %d is not %d", f.Schema, schema)
	}
	if len(f.Guards) > maxGuards {
		return nil, fmt.Errorf("%d guards are more than %d", len(f.Guards), maxGuards)
	}
	return guardsOf(f.Guards)
}

// guardsOf returns the guards that records stand for. All are right or there is an
// error.
func guardsOf(records []record) ([]firewall.Guard, error) {
	tunnel := regexp.MustCompile(`^t[0-9a-f]{10}(-[0-9a-f]{4})?$`)
	guards := make([]firewall.Guard, 0, len(records))
	for i, r := range records {
		if problem := r.problem(); problem != "" {
			return nil, fmt.Errorf("guard %d: %s", i+1, problem)
		}
		if !tunnel.MatchString(r.Tunnel) {
			return nil, fmt.Errorf("guard %d: no tunnel's ID", i+1)
		}
		guards = append(guards, firewall.Guard{
			Local: r.Local, Remote: r.Remote, Proto: r.Proto, LocalPort: r.LocalPort, RemotePort: r.RemotePort,
			Pierce: r.Pierce, Dirs: r.Dirs, Source: firewall.MemoryGuard, Peer: r.Peer, Tunnel: r.Tunnel,
			Priority: r.Priority, Routed: r.Routed, Since: r.Since, Expires: r.Expires,
		})
	}
	return guards, nil
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
	case r.Remote.Bits() == 0 && !r.Pierce:
		return "its remote is everything"
	case !local, !remote, (!r.LocalPort.Any() || !r.RemotePort.Any()) && !ported(r.Proto):
		return "its ports are none"
	case r.Dirs > 7, r.Peer.Zone() != "", r.Since < 0, r.Expires < r.Since:
		return "its numbers make no sense"
	}
	return ""
}

func ported(p xfrm.Proto) bool {
	switch p {
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP, xfrm.ICMP, xfrm.ICMPv6:
		return true
	}
	return false
}

// Save replaces the memory. It makes the directory if there is none.
func (s Store) Save(guards []firewall.Guard) error {
	f := file{Schema: schema, Guards: make([]record, 0, len(guards))}
	for _, g := range guards {
		f.Guards = append(f.Guards, record{
			Local: g.Local, Remote: g.Remote, Proto: g.Proto, LocalPort: g.LocalPort, RemotePort: g.RemotePort,
			Pierce: g.Pierce, Dirs: g.Dirs, Peer: g.Peer, Tunnel: g.Tunnel,
			Priority: g.Priority, Routed: g.Routed, Since: g.Since, Expires: g.Expires,
		})
	}
	text, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return fmt.Errorf("write memory: %w", err)
	}
	d, err := rundir.Make(filepath.Dir(s.path))
	if err != nil {
		return fmt.Errorf("make state directory: %w: run as root, or name another with --state-dir", err)
	}
	defer d.Close()
	text = append(text, '\n')
	name := filepath.Base(s.path)
	if err := errors.Join(d.Replace(name, text), d.Tidy(name)); err != nil {
		return fmt.Errorf("write memory: %w", err)
	}
	if guards, err := guardsOf(f.Guards); err == nil && len(guards) <= maxGuards && len(text) <= maxSize {
		s.last.keep(text, guards)
	}
	return nil
}

// fresher is how long an entry's end may lag behind, in seconds, so that the
// file is not written at every look at the kernel.
const fresher = 3600

// Changed reports whether the file should be written again.
func Changed(old, now []firewall.Guard) bool {
	if len(old) != len(now) {
		return true
	}
	for i := range old {
		a, b := old[i], now[i]
		if b.Expires-a.Expires > fresher || b.Expires < a.Expires {
			return true
		}
		a.Expires, a.Since = b.Expires, b.Since
		if a != b {
			return true
		}
	}
	return false
}
