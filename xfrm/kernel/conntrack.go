package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Pair is a pair of networks between which flows are to go through a tunnel.
type Pair struct{ Local, Remote netip.Prefix }

// The messages and attributes of conntrack that are used, from
// linux/netfilter/nfnetlink_conntrack.h.
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2
	ctStats  = unix.NFNL_SUBSYS_CTNETLINK<<8 | 5

	ctTupleOrig, ctTupleReply, ctZone = 1, 2, 18

	ctTupleIP = 1

	ctStatsEntries = 1
)

// mostForgotten bounds how many entries are kept at a time for their deletion.
const mostForgotten = 1 << 16

// ForgetRewritten deletes the conntrack entries of flows between the pairs'
// networks with a local end that was or will be rewritten to an address outside the
// local network: NAT took hold of them before their tunnel came up, and never
// looks again. It returns how many were deleted. The table is read as a stream, so
// the memory that it takes does not grow with the table.
func ForgetRewritten(ctx context.Context, pairs []Pair) (int, error) {
	deleted := 0
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		index := newPairIndex(pairs, family == unix.AF_INET)
		if len(index.pairs) == 0 {
			continue
		}
		n, err := index.forget(ctx, family)
		if deleted += n; err != nil {
			return deleted, fmt.Errorf("delete conntrack entries: %w", explain(err))
		}
	}
	return deleted, nil
}

// flow names an entry for its deletion.
type flow struct{ tuple, zone []byte }

func (x pairIndex) forget(ctx context.Context, family uint8) (deleted int, err error) {
	c, err := dialTo(unix.NETLINK_NETFILTER, make([]byte, bufferSize))
	if err != nil {
		return 0, err
	}
	defer c.close()
	defer c.until(ctx)()
	if noFlows(c) {
		return 0, nil
	}
	var found []flow
	err = c.request(ctRequest(ctGet, unix.NLM_F_DUMP, family), func(_ uint16, body []byte) error {
		if f, ok := x.rewritten(body); ok && len(found) < mostForgotten {
			found = append(found, flow{bytes.Clone(f.tuple), bytes.Clone(f.zone)})
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, f := range found {
		req := ctRequest(ctDelete, unix.NLM_F_ACK, family)
		req.AddData(nl.NewRtAttr(unix.NLA_F_NESTED|ctTupleOrig, f.tuple))
		if f.zone != nil {
			req.AddData(nl.NewRtAttr(ctZone, f.zone))
		}
		err := c.request(req, func(uint16, []byte) error { return nil })
		switch {
		case err == nil:
			deleted++
		case !errors.Is(err, unix.ENOENT): // it ended meanwhile
			return deleted, err
		}
	}
	return deleted, nil
}

// noFlows reports whether the network namespace has no entry. A dump walks through the
// table of all namespaces, which is long.
func noFlows(c *conn) (none bool) {
	// The answer says that others follow, so an acknowledgement ends it.
	_ = c.request(ctRequest(ctStats, unix.NLM_F_ACK, unix.AF_UNSPEC), func(_ uint16, body []byte) error {
		if len(body) > nfgenSize {
			entries := attribute(body[nfgenSize:], ctStatsEntries)
			none = len(entries) == 4 && binary.BigEndian.Uint32(entries) == 0
		}
		return nil
	})
	return none
}

func ctRequest(typ, flags int, family uint8) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(typ, flags)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0})
	return req
}

// pairIndex finds the pair of a flow by its addresses, however many pairs there are:
// lengths are those of its prefixes.
type pairIndex struct {
	pairs   map[Pair]bool
	lengths [][2]int
}

func newPairIndex(pairs []Pair, is4 bool) pairIndex {
	x := pairIndex{pairs: make(map[Pair]bool)}
	seen := make(map[[2]int]bool)
	for _, p := range pairs {
		if p.Remote.Addr().Is4() != is4 {
			continue
		}
		x.pairs[Pair{p.Local.Masked(), p.Remote.Masked()}] = true
		if l := [2]int{p.Local.Bits(), p.Remote.Bits()}; !seen[l] {
			seen[l] = true
			x.lengths = append(x.lengths, l)
		}
	}
	return x
}

// crosses reports whether a local and a remote address are of a pair with a local network
// that does not have the other address.
func (x pairIndex) crosses(local, remote, other netip.Addr) bool {
	for _, l := range x.lengths {
		p := Pair{netip.PrefixFrom(local, l[0]).Masked(), netip.PrefixFrom(remote, l[1]).Masked()}
		if x.pairs[p] && !p.Local.Contains(other) {
			return true
		}
	}
	return false
}

// rewritten reads an entry and reports whether it is one of ForgetRewritten. The flow
// leads into the message.
func (x pairIndex) rewritten(body []byte) (f flow, ok bool) {
	if len(body) < nfgenSize {
		return f, false
	}
	body = body[nfgenSize:]
	f.tuple, f.zone = attribute(body, ctTupleOrig), attribute(body, ctZone)
	origSrc, origDst, ok := addresses(f.tuple)
	replSrc, replDst, replies := addresses(attribute(body, ctTupleReply))
	if !ok || !replies {
		return f, false
	}
	// From the local side with the source rewritten, or from the remote side with the
	// destination rewritten (a port-forward).
	return f, x.crosses(origSrc, replSrc, replDst) || x.crosses(replSrc, origSrc, origDst)
}

// addresses reads source and destination of a tuple.
func addresses(tuple []byte) (src, dst netip.Addr, ok bool) {
	ip := attribute(tuple, ctTupleIP)
	src, ok = netip.AddrFromSlice(attribute(ip, 1)) // CTA_IP_V4_SRC
	if ok {
		dst, ok = netip.AddrFromSlice(attribute(ip, 2))
		return src, dst, ok
	}
	if src, ok = netip.AddrFromSlice(attribute(ip, 3)); ok { // CTA_IP_V6_SRC
		dst, ok = netip.AddrFromSlice(attribute(ip, 4))
	}
	return src, dst, ok
}
