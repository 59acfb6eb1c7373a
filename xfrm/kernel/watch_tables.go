package kernel

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	groupTables = 7 // NFNLGRP_NFTABLES
	// newGeneration is the message that ends each transaction of nf_tables:
	// NFT_MSG_NEWGEN of NFNL_SUBSYS_NFTABLES.
	newGeneration = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN
	// generationPID is the attribute that says whose it was (NFTA_GEN_PROC_PID),
	// as the first PID namespace numbers it.
	generationPID = 2
	nfgenSize     = 4      // struct nfgenmsg
	typeMask      = 0x3fff // NLA_TYPE_MASK
)

// WatchTables is Watch for nf_tables, where iptables-nft keeps its rules: it is
// dirty after each transaction but those of processes that own recognises. It
// tells nothing of the rules of iptables-legacy, which have no notifications.
func WatchTables(own func(pid int) bool) (*Watcher, error) {
	c, err := dialTo(unix.NETLINK_NETFILTER, make([]byte, bufferSize))
	if err != nil {
		return nil, fmt.Errorf("watch nf_tables: %w", err)
	}
	if err := onlyGenerations(c.socket.GetFd()); err != nil {
		c.close()
		return nil, fmt.Errorf("watch nf_tables: %w", err)
	}
	if err := unix.SetsockoptInt(c.socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, groupTables); err != nil {
		c.close()
		return nil, fmt.Errorf("watch nf_tables: %w", explain(err))
	}
	w := newWatcher(c)
	w.look = func(m message) bool {
		if m.typ != newGeneration {
			return false
		}
		pid, ok := committer(m.body)
		return !ok || !own(pid)
	}
	return w, nil
}

// onlyGenerations has the kernel drop all messages but newGeneration before they
// are queued. A transaction is announced with a message for each of its rules,
// some 100,000 for a full apply of ours; the generation is one, in a datagram of
// its own (nf_tables_gen_notify).
func onlyGenerations(fd int) error {
	var typ [2]byte
	native.PutUint16(typ[:], newGeneration)
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4}, // nlmsg_type, read as big-endian
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(binary.BigEndian.Uint16(typ[:])), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: ^uint32(0)},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// committer is the process whose transaction a newGeneration ends, if it says so.
func committer(body []byte) (pid int, ok bool) {
	if len(body) < nfgenSize {
		return 0, false
	}
	for b := body[nfgenSize:]; len(b) >= unix.NLA_HDRLEN; {
		size, typ := int(native.Uint16(b)), native.Uint16(b[2:])
		if size < unix.NLA_HDRLEN || size > len(b) {
			return 0, false
		}
		if typ&typeMask == generationPID && size == unix.NLA_HDRLEN+4 {
			return int(binary.BigEndian.Uint32(b[unix.NLA_HDRLEN:])), true
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return 0, false
}
