package main

import (
	"sync"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// known is what the kernel had when it was last read, kept up to date by its own
// notifications, so that one that changes no rule, as of a rekey, costs no look.
type known struct {
	mu      sync.Mutex
	decoder xfrm.Decoder
	// index is nil while nothing is known.
	index *xfrm.Index
	// missed are the notifications that came while the kernel was read: they may
	// be in what was read, or not.
	missed  []xfrm.Note
	reading bool
}

// mostMissed bounds what is kept for later. Beyond, the kernel is read again.
const mostMissed = 1 << 16

// relevant judges one notification, for kernel.WatchFor.
func (k *known) relevant(typ uint16, body []byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.reading && len(k.missed) < mostMissed:
		k.missed = append(k.missed, k.decoder.NoteOf(typ, body))
		return false
	case k.index == nil:
		return xfrm.Classify(typ, body).Look()
	}
	return k.index.Take(k.decoder.NoteOf(typ, body))
}

// begin is called before the kernel is read.
func (k *known) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.index, k.missed, k.reading = nil, k.missed[:0], true
}

// end is called when rules are in force that follow from the snapshot. It reports
// whether the kernel has changed meanwhile.
func (k *known) end(s xfrm.Snapshot) (look bool) {
	index := xfrm.NewIndex(s)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range k.missed {
		look = index.Take(n) || look
	}
	k.index, k.missed, k.reading = index, nil, false
	return look
}

// fail is called when it comes to nothing: whatever comes now asks for a look.
func (k *known) fail() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.index, k.missed, k.reading = nil, nil, false
}
