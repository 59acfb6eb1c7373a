package kernel

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	groupTables = 7 // NFNLGRP_NFTABLES
	// newGeneration is the message that ends each transaction of nf_tables:
	// NFT_MSG_NEWGEN of NFNL_SUBSYS_NFTABLES.
	newGeneration = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN
	// generationPID and generationName are the attributes that name its author: the
	// process, as the first PID namespace numbers it, and its name
	// (NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME).
	generationPID  = 2
	generationName = 3
	// firstPIDNamespace is the inode of the first PID namespace (PROC_PID_INIT_INO).
	firstPIDNamespace = 0xeffffffc
	nfgenSize         = 4      // struct nfgenmsg
	typeMask          = 0x3fff // NLA_TYPE_MASK
)

// Committer is the author of a transaction of nf_tables.
type Committer struct {
	// PID is the process, 0 if it is not known.
	PID int
	// Port is the address of its socket, which no other socket of the network namespace has.
	Port uint32
}

// WatchTables is Watch for nf_tables, where iptables-nft keeps its rules: it is
// dirty after each transaction but those that own recognises by their author. It
// tells nothing of the rules of iptables-legacy, which have no notifications.
func WatchTables(own func(Committer) bool) (*Watcher, error) {
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
	contained := inPIDNamespace()
	w.look = func(m message) bool {
		if m.typ != newGeneration {
			return false
		}
		pid, name, ok := committer(m.body)
		if contained {
			// The number is of no use here. But the socket of the program that committed
			// has its number in its own namespace for a port (netlink_autobind), which is
			// that of our children; a process of another namespace can have the same one,
			// and has to be called like them too.
			pid = int(m.port)
			ok = ok && (strings.HasPrefix(name, "iptables") || strings.HasPrefix(name, "ip6tables") || strings.HasPrefix(name, "xtables"))
		}
		if !ok {
			pid = 0
		}
		return !own(Committer{pid, m.port})
	}
	return w, nil
}

// inPIDNamespace reports whether this process is in another PID namespace than the
// first one, as in most containers.
func inPIDNamespace() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/pid", &st) == nil && st.Ino != firstPIDNamespace
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

// committer returns the process of the transaction that a newGeneration ends, and its
// name, if the kernel tells.
func committer(body []byte) (pid int, name string, ok bool) {
	if len(body) < nfgenSize {
		return 0, "", false
	}
	for b := body[nfgenSize:]; len(b) >= unix.NLA_HDRLEN; {
		size, typ := int(native.Uint16(b)), native.Uint16(b[2:])
		if size < unix.NLA_HDRLEN || size > len(b) {
			return 0, "", false
		}
		switch value := b[unix.NLA_HDRLEN:size]; {
		case typ&typeMask == generationPID && len(value) == 4:
			pid, ok = int(binary.BigEndian.Uint32(value)), true
		case typ&typeMask == generationName:
			name = unix.ByteSliceToString(value)
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return pid, name, ok
}
