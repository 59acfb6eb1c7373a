package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// elementWatch receives the kernel's notifications of the elements of nf_tables.
type elementWatch struct {
	fd   int
	mu   sync.Mutex
	seen []elementSeen
}

// elementSeen is the notification of an element that came or went.
type elementSeen struct {
	at    time.Time
	added bool
	text  []byte // the message
}

// watchElements watches until ctx ends.
func watchElements(ctx context.Context) (*elementWatch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("watch elements: %w", err)
	}
	w := &elementWatch{fd: fd}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch elements: %w", err)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	go w.run(ctx)
	return w, nil
}

func (w *elementWatch) run(ctx context.Context) {
	defer func() { _ = unix.Close(w.fd) }()
	b := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(w.fd, b, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
			continue
		case err != nil:
			return
		}
		now := time.Now()
		for rest := b[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(rest))
			if size < unix.SizeofNlMsghdr || size > len(rest) {
				break
			}
			typ := binary.NativeEndian.Uint16(rest[4:])
			if typ>>8 == unix.NFNL_SUBSYS_NFTABLES && (typ&0xff == unix.NFT_MSG_NEWSETELEM || typ&0xff == unix.NFT_MSG_DELSETELEM) {
				w.mu.Lock()
				w.seen = append(w.seen, elementSeen{now, typ&0xff == unix.NFT_MSG_NEWSETELEM, bytes.Clone(rest[:size])})
				w.mu.Unlock()
			}
			rest = rest[min(len(rest), (size+3)&^3):]
		}
	}
}

// drain forgets the notifications so far.
func (w *elementWatch) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = nil
}

// at returns when an element with an address came into a set with a name that begins so,
// or went; the zero time if none did.
func (w *elementWatch) at(set string, addr netip.Addr, added bool) time.Time {
	four := addr.As4()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seen {
		// The name is an attribute of its own: the byte before it ends the header.
		if s.added == added && bytes.Contains(s.text, append([]byte{0}, set...)) && bytes.Contains(s.text, four[:]) {
			return s.at
		}
	}
	return time.Time{}
}

// inForce returns when the guard and the claim of a site stood, or with up false when its
// claim was gone, while its guard stayed.
func (w *elementWatch) inForce(addr netip.Addr, up bool) (time.Time, error) {
	const claims, guards = "c4_24_", "g0_4_24_"
	claim := w.at(claims, addr, up)
	guard := w.at(guards, addr, up)
	switch {
	case claim.IsZero():
		return claim, fmt.Errorf("no notification of the claim of %s", addr)
	case !up && !guard.IsZero():
		return guard, fmt.Errorf("the guard of %s went with its policies", addr)
	case guard.After(claim):
		return guard, nil
	}
	return claim, nil
}
