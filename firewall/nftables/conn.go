package nftables

import (
	"errors"
	"fmt"
	"os"

	"github.com/xfrmfw/xfrmfw/firewall/nftables/wire"
	"golang.org/x/sys/unix"
)

const (
	receiveSize = 128 << 10 // the kernel fills at most 32 KiB of a dump at once
	// firstBuffer is the room for a batch that every process may have.
	firstBuffer = 212_992
	// wait bounds the time for one answer; the kernel answers while it sends.
	waitSeconds = 10
)

// Conn is a socket of nf_tables. It is kept open from one change to the next: a
// table with an owner belongs to the socket that made it. A Conn is not safe for
// concurrent use.
type Conn struct {
	fd   int
	port uint32
	seq  uint32
	buf  []byte
	room int // of the send buffer
	out  wire.Writer
}

// Open opens a socket. It needs no privileges; reading and changing tables needs
// CAP_NET_ADMIN in the user namespace of the network namespace.
func Open() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open nf_tables socket: %w", explainSocket(err))
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bind nf_tables socket: %w", err)
	}
	return adopt(fd)
}

// Adopt takes over a socket that another process opened, such as one that the
// service manager kept over a restart. The tables that belong to the socket
// belong to this process then.
func Adopt(f *os.File) (*Conn, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("adopt nf_tables socket: %w", err)
	}
	if protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || protocol != unix.NETLINK_NETFILTER {
		_ = unix.Close(fd)
		return nil, errors.New("adopt nf_tables socket: not a netfilter socket")
	}
	return adopt(fd)
}

func adopt(fd int) (*Conn, error) {
	c := &Conn{fd: fd, buf: make([]byte, receiveSize), room: firstBuffer}
	name, err := unix.Getsockname(fd)
	if err == nil {
		if addr, ok := name.(*unix.SockaddrNetlink); ok {
			c.port = addr.Pid
		}
		err = c.setOptions()
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("prepare nf_tables socket: %w", err)
	}
	return c, nil
}

func (c *Conn) setOptions() error {
	// Errors name the attribute, and come without the message that they are about.
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		if err := unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, option, 1); err != nil {
			return err
		}
	}
	return unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: waitSeconds})
}

// File returns a duplicate of the socket, for the service manager to keep.
func (c *Conn) File() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate nf_tables socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "nftables"), nil
}

// Port returns the socket's address, by which a table names its owner and an
// event its cause.
func (c *Conn) Port() uint32 { return c.port }

// Close closes the socket. The kernel deletes a table that belongs to it and is
// not persistent.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// message is one message of the kernel, in the receive buffer.
type message struct {
	typ, flags uint16
	seq        uint32
	body       []byte // behind struct nfgenmsg, or the whole of an error
}

// receive calls each with the messages of one datagram.
func (c *Conn) receive(flags int, each func(message) error) error {
	n, from, err := unix.Recvfrom(c.fd, c.buf, flags|unix.MSG_TRUNC)
	for errors.Is(err, unix.EINTR) {
		n, from, err = unix.Recvfrom(c.fd, c.buf, flags|unix.MSG_TRUNC)
	}
	if err != nil {
		return err
	}
	if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid != 0 {
		return nil // any process may send to this socket; messages of the kernel alone are read
	}
	if n > len(c.buf) {
		return fmt.Errorf("datagram of %d bytes does not fit in the buffer", n)
	}
	return messages(c.buf[:n], each)
}

// messages calls each with the messages in a buffer.
func messages(b []byte, each func(message) error) error {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(wire.Native.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return errors.New("netlink message is cut short")
		}
		m := message{typ: wire.Native.Uint16(b[4:]), flags: wire.Native.Uint16(b[6:]), seq: wire.Native.Uint32(b[8:])}
		m.body = b[unix.SizeofNlMsghdr:size]
		if m.typ>>8 == unix.NFNL_SUBSYS_NFTABLES {
			if size < wire.HeaderSize {
				return errors.New("netfilter message is cut short")
			}
			m.body = b[wire.HeaderSize:size]
		}
		if err := each(m); err != nil {
			return err
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return nil
}

// request sends a request that changes nothing, and calls each with the answers.
func (c *Conn) request(typ, flags uint16, body func(*wire.Writer), each func(typ uint16, body []byte)) error {
	c.seq++
	seq := c.seq
	c.out.B = c.out.B[:0]
	start := c.out.Begin(typ, flags, seq)
	body(&c.out)
	c.out.Finish(start)
	if err := c.send(c.out.B); err != nil {
		return err
	}
	for more := true; more; {
		err := c.receive(0, func(m message) error {
			if m.seq != seq || !more {
				return nil // of a request that was given up
			}
			switch m.typ {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				more = false
				if code := answerCode(m.body); code != 0 {
					return code
				}
				return nil
			}
			if m.flags&unix.NLM_F_DUMP_INTR != 0 {
				more = false
				return errChanged
			}
			each(m.typ&0xff, m.body)
			more = m.flags&unix.NLM_F_MULTI != 0
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// answerCode returns the error of a message that ends an answer, 0 for none.
func answerCode(body []byte) unix.Errno {
	if len(body) < 4 {
		return 0
	}
	return unix.Errno(-int32(wire.Native.Uint32(body)))
}

func (c *Conn) send(b []byte) error {
	err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for errors.Is(err, unix.EINTR) {
		err = unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	return err
}

// drain reads and drops answers to requests that were given up.
func (c *Conn) drain() {
	for c.receive(unix.MSG_DONTWAIT, func(message) error { return nil }) == nil {
	}
}

// grow makes room for a batch in the send buffer, and reports whether there is
// enough. In a user namespace the kernel gives no more than net.core.wmem_max.
func (c *Conn) grow(size int) bool {
	const reserve = 64
	if size+reserve <= c.room {
		return true
	}
	// The kernel doubles the number that it is given.
	if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size+reserve) != nil {
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size+reserve)
	}
	if room, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF); err == nil {
		c.room = room
	}
	return size+reserve <= c.room
}
