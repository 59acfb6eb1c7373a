package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// nftSocket asks nft_compat whether it finds an extension of x_tables, as
// iptables-nft does. The kernel loads its module for that.
type nftSocket struct {
	fd     int
	family uint8
}

// askNFT opens the socket, as an asker.
func askNFT(family xfrm.Family) (asker, error) { return openNFT(family) }

func openNFT(family xfrm.Family) (nftSocket, error) {
	s := nftSocket{family: unix.AF_INET}
	if family == xfrm.IPv6 {
		s.family = unix.AF_INET6
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return s, fmt.Errorf("ask nf_tables for features: %w", err)
	}
	s.fd = fd
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})); err != nil {
		s.close()
		return s, fmt.Errorf("ask nf_tables for features: %w", err)
	}
	return s, nil
}

func (s nftSocket) close() { _ = unix.Close(s.fd) }

// has reports whether the kernel has an extension in some revision.
func (s nftSocket) has(name string, target bool) bool {
	// NFNL_MSG_COMPAT_GET with NFTA_COMPAT_NAME, _REV and _TYPE.
	kind := uint32(0)
	if target {
		kind = 1
	}
	body := attribute(nil, 1, append([]byte(name), 0))
	body = attribute(body, 2, binary.BigEndian.AppendUint32(nil, 0))
	body = attribute(body, 3, binary.BigEndian.AppendUint32(nil, kind))
	const compatGet = unix.NFNL_SUBSYS_NFT_COMPAT << 8
	refused, err := s.exchange([]nftMessage{{typ: compatGet, flags: unix.NLM_F_ACK, body: body}})
	// EPROTONOSUPPORT is another revision.
	return err != nil || !errors.Is(refused[0], unix.ENOENT)
}

// nftMessage is a request without its headers.
type nftMessage struct {
	typ, flags uint16
	// batch marks the messages that begin and end a batch, which are of nfnetlink itself.
	batch bool
	body  []byte
}

// exchange sends messages in one datagram and returns the error that the kernel
// has for each, by its place; 0 for none.
func (s nftSocket) exchange(messages []nftMessage) (map[int]unix.Errno, error) {
	var out []byte
	for i, m := range messages {
		family, resource := s.family, uint16(0)
		if m.batch {
			family, resource = unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES
		}
		out = binary.NativeEndian.AppendUint32(out, uint32(unix.NLMSG_HDRLEN+4+len(m.body)))
		out = binary.NativeEndian.AppendUint16(out, m.typ)
		out = binary.NativeEndian.AppendUint16(out, unix.NLM_F_REQUEST|m.flags)
		out = binary.NativeEndian.AppendUint32(out, uint32(i))
		out = binary.NativeEndian.AppendUint32(out, 0)
		out = append(out, family, unix.NFNETLINK_V0)
		out = binary.BigEndian.AppendUint16(out, resource)
		out = append(out, m.body...)
	}
	if err := unix.Sendto(s.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask nf_tables for features: %w", err)
	}
	refused := make(map[int]unix.Errno)
	buffer := make([]byte, 8<<10)
	// The last message that asks for an acknowledgement, or that is bound to fail, is
	// answered last.
	for answered := false; !answered; {
		n, _, err := unix.Recvfrom(s.fd, buffer, 0)
		if err != nil {
			return nil, fmt.Errorf("ask nf_tables for features: %w", err)
		}
		for b := buffer[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return nil, errors.New("ask nf_tables for features: a message is cut short")
			}
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && size >= unix.NLMSG_HDRLEN+4 {
				seq := int(binary.NativeEndian.Uint32(b[8:]))
				if code := int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); code < 0 {
					refused[seq] = unix.Errno(-code)
				}
				answered = answered || seq == lastAsked(messages)
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
	return refused, nil
}

// lastAsked is the place of the last message with NLM_F_ACK.
func lastAsked(messages []nftMessage) int {
	last := 0
	for i, m := range messages {
		if m.flags&unix.NLM_F_ACK != 0 {
			last = i
		}
	}
	return last
}

// trial returns which of the features nat, limit and NFLOG nf_tables itself lacks.
// It sends a batch that adds a table with a chain and a rule for each, and then
// deletes a table that is not there: so the kernel judges all of it, and commits
// and announces none of it (nfnetlink_rcv_batch).
func trial(family xfrm.Family) rules.Features {
	s, err := openNFT(family)
	if err != nil {
		return 0
	}
	defer s.close()
	const table, chain, none = "xfrmfw-probe", "probe", "xfrmfw-probe-none"
	text := func(s string) []byte { return append([]byte(s), 0) }
	u32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	u64 := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	message := func(typ uint16, flags uint16, body []byte) nftMessage {
		return nftMessage{typ: unix.NFNL_SUBSYS_NFTABLES<<8 | typ, flags: flags, body: body}
	}
	rule := func(name string, data []byte) nftMessage {
		expr := attribute(nil, unix.NFTA_EXPR_NAME, text(name))
		expr = attribute(expr, unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, data)
		body := attribute(nil, unix.NFTA_RULE_TABLE, text(table))
		body = attribute(body, unix.NFTA_RULE_CHAIN, text(chain))
		list := attribute(nil, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, expr)
		return message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, attribute(body, unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, list))
	}
	const create = unix.NLM_F_CREATE
	plain := attribute(attribute(nil, unix.NFTA_CHAIN_TABLE, text(table)), unix.NFTA_CHAIN_NAME, text(chain))
	hook := attribute(nil, unix.NFTA_HOOK_HOOKNUM, u32(unix.NF_INET_POST_ROUTING))
	hook = attribute(hook, unix.NFTA_HOOK_PRIORITY, u32(100))
	nat := attribute(attribute(nil, unix.NFTA_CHAIN_TABLE, text(table)), unix.NFTA_CHAIN_NAME, text("nat"))
	nat = attribute(nat, unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, hook)
	nat = attribute(nat, unix.NFTA_CHAIN_TYPE, text("nat"))
	limit := attribute(nil, unix.NFTA_LIMIT_RATE, u64(1))
	limit = attribute(limit, unix.NFTA_LIMIT_UNIT, u64(1))
	const natAt, limitAt, logAt, noneAt = 3, 4, 5, 6
	refused, err := s.exchange([]nftMessage{
		{typ: unix.NFNL_MSG_BATCH_BEGIN, batch: true},
		message(unix.NFT_MSG_NEWTABLE, create, attribute(nil, unix.NFTA_TABLE_NAME, text(table))),
		message(unix.NFT_MSG_NEWCHAIN, create, plain),
		message(unix.NFT_MSG_NEWCHAIN, create, nat),
		rule("limit", limit),
		rule("log", attribute(nil, unix.NFTA_LOG_GROUP, binary.BigEndian.AppendUint16(nil, 1))),
		message(unix.NFT_MSG_DELTABLE, unix.NLM_F_ACK, attribute(nil, unix.NFTA_TABLE_NAME, text(none))),
		{typ: unix.NFNL_MSG_BATCH_END, batch: true},
	})
	if err != nil || refused[noneAt] != unix.ENOENT {
		return 0
	}
	lacks := rules.Features(0)
	for at, f := range map[int]rules.Features{natAt: rules.FeatureNAT, limitAt: rules.FeatureLimit, logAt: rules.FeatureNFLog} {
		if refused[at] != 0 {
			lacks |= f
		}
	}
	return lacks
}

// attribute appends a netlink attribute.
func attribute(b []byte, typ uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.NLA_HDRLEN+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
