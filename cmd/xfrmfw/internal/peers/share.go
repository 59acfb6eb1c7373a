package peers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// The most records: of a peer, of a connection, in which each peer may choose its identity,
// and of all. A full share refuses new records, so that no peer takes the room of others
// and no former record goes.
const (
	maxByPeer       = 4096
	maxByConnection = 16384
	maxRecords      = 32768
)

// Share is a part of the room for records that is full.
type Share struct {
	// Of names the peer or the connection; it is empty for the room of all.
	Of          string
	Count, Most int
	prefix      string
}

// kind names the records that share the room.
func (s Share) kind() string {
	return map[int]string{maxByPeer: "records of this peer", maxByConnection: "records of peers of its connection", maxRecords: "records of peers"}[s.Most]
}

// fullShares returns the shares without room, the largest first: those that a new record
// would take room of, or all for "".
func fullShares(names []string, share string) []Share {
	counts := make(map[Share]int)
	for _, name := range names {
		counts[Share{Most: maxRecords}]++
		if share == "" || strings.HasPrefix(name, share[:connectionDigits]) {
			counts[Share{Most: maxByConnection, prefix: name[:connectionDigits]}]++
		}
		if share == "" || strings.HasPrefix(name, share) {
			counts[Share{Most: maxByPeer, prefix: name[:shareDigits]}]++
		}
	}
	var full []Share
	for s, n := range counts {
		if n >= s.Most {
			s.Count = n
			full = append(full, s)
		}
	}
	slices.SortFunc(full, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Most, a.Most), cmp.Compare(b.Count, a.Count), cmp.Compare(a.prefix, b.prefix))
	})
	return full
}

// name finds the name of a share's peer or connection in its records.
func (s *Share) name(records []Record) {
	for _, r := range records {
		switch {
		case s.prefix == "" || !strings.HasPrefix(r.share(), s.prefix):
		case s.Most == maxByPeer:
			s.Of = fmt.Sprintf("peer %q of connection %q", r.Identity(), r.Connection)
			return
		default:
			s.Of = fmt.Sprintf("connection %q", r.Connection)
			return
		}
	}
}

// Full returns the shares without room when the records were loaded last. Peers that come
// up are unknown there, so they get the rights of any peer.
func (s *Store) Full() []Share {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}
