package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

// Select returns the report with only those tunnels that one of the words
// names: by ID, name, connection, reqid, peer identity, the peer's address or a
// prefix around it. A word that names none is an error.
func (r Report) Select(names []string) (Report, error) {
	if len(names) == 0 {
		return r, nil
	}
	words := make([]word, len(names))
	for i, name := range names {
		words[i] = newWord(name)
	}
	var selected []Tunnel
	for _, t := range r.Tunnels {
		chosen := false
		for i := range words {
			if words[i].fits(t) {
				chosen, words[i].found = true, true
			}
		}
		if chosen {
			selected = append(selected, t)
		}
	}
	if i := slices.IndexFunc(words, func(w word) bool { return !w.found }); i >= 0 {
		return Report{}, fmt.Errorf("no tunnel is named %s: give an ID, name, reqid or peer address that status without arguments lists",
			text.Label(names[i], 80))
	}
	r.Tunnels = selected
	return r, nil
}

// word is the user's name for a tunnel.
type word struct {
	text  string
	reqid uint64
	peer  netip.Prefix
	found bool
}

func newWord(text string) word {
	w := word{text: text}
	w.reqid, _ = strconv.ParseUint(text, 10, 32)
	if addr, err := netip.ParseAddr(text); err == nil {
		w.peer = netip.PrefixFrom(addr, addr.BitLen())
	} else if prefix, err := netip.ParsePrefix(text); err == nil {
		w.peer = prefix
	}
	return w
}

func (w word) fits(t Tunnel) bool {
	if w.text == "" {
		return false
	}
	if w.text == t.ID || w.text == t.Name || w.text == t.Connection || w.text == t.PeerID {
		return true
	}
	if w.reqid != 0 && w.reqid == uint64(t.Reqid) {
		return true
	}
	if !w.peer.IsValid() || t.Remote == "" {
		return false
	}
	addr, err := netip.ParseAddr(t.Remote)
	return err == nil && w.peer.Contains(addr)
}
