package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// bufferSize is twice the size of one datagram of the kernel's dump, and
	// far more than any event.
	bufferSize = 64 << 10
	maxBuffer  = 16 << 20
)

var native = binary.NativeEndian

// conn is a netlink socket. Requests go through nl's socket. Receiving has
// its own descriptor and buffer, as nl's Receive copies each datagram, and with
// it the keys, to memory that is not wiped.
type conn struct {
	socket *nl.NetlinkSocket
	file   *os.File
	raw    syscall.RawConn
	port   uint32
	buf    []byte
}

// dial opens a NETLINK_XFRM socket and joins the multicast groups. It receives
// into buf.
func dial(buf []byte, groups ...int) (*conn, error) { return dialTo(unix.NETLINK_XFRM, buf, groups...) }

// dialTo is dial for any netlink protocol.
func dialTo(protocol int, buf []byte, groups ...int) (*conn, error) {
	// nl could join groups by itself, but closes its descriptor twice when the
	// kernel refuses them.
	socket, err := nl.Subscribe(protocol)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", explain(err))
	}
	c := &conn{socket: socket, buf: buf}
	if err := c.open(groups); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *conn) open(groups []int) error {
	fd := c.socket.GetFd()
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return fmt.Errorf("join multicast group %d: %w", g, explain(err))
		}
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("duplicate netlink socket: %w", err)
	}
	c.file = os.NewFile(uintptr(own), "netlink")
	if c.raw, err = c.file.SyscallConn(); err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	if c.port, err = c.socket.GetPid(); err != nil {
		return fmt.Errorf("name netlink socket: %w", err)
	}
	return nil
}

func (c *conn) close() {
	c.socket.Close()
	if c.file != nil {
		_ = c.file.Close()
	}
	clear(c.buf)
}

// until makes receiving fail with os.ErrDeadlineExceeded once ctx is done. The
// caller calls the returned function when it has received its answer.
func (c *conn) until(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.file.SetReadDeadline(time.Unix(1, 0)) })
}

// message is one netlink message, in the receive buffer.
type message struct {
	typ, flags uint16
	seq, port  uint32
	body       []byte
}

// next splits the first message off a datagram.
func next(b []byte) (m message, rest []byte, err error) {
	if len(b) < unix.NLMSG_HDRLEN {
		return m, nil, errors.New("netlink header is cut short")
	}
	size := int(native.Uint32(b))
	if size < unix.NLMSG_HDRLEN || size > len(b) {
		return m, nil, errors.New("netlink message is cut short")
	}
	m = message{
		typ:   native.Uint16(b[4:]),
		flags: native.Uint16(b[6:]),
		seq:   native.Uint32(b[8:]),
		port:  native.Uint32(b[12:]),
		body:  b[unix.NLMSG_HDRLEN:size],
	}
	return m, b[min(len(b), (size+3)&^3):], nil
}

// receive waits for one datagram of the kernel and has it handled. It wipes the
// buffer afterwards.
func (c *conn) receive(handle func(datagram []byte) error) error {
	n, err := c.fill(c.buf)
	defer clear(c.buf[:n])
	if err != nil {
		return err
	}
	return handle(c.buf[:n])
}

// fill receives one datagram of the kernel into a buffer.
func (c *conn) fill(buf []byte) (n int, err error) {
	var from unix.Sockaddr
	read := func(fd uintptr) bool {
		for {
			// With MSG_TRUNC the length is that of the datagram, not of the part
			// that fitted.
			n, from, err = unix.Recvfrom(int(fd), buf, unix.MSG_TRUNC)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	}
	for {
		if e := c.raw.Read(read); e != nil {
			return 0, e
		}
		switch sender, ok := from.(*unix.SockaddrNetlink); {
		case errors.Is(err, unix.ENOBUFS):
			return 0, fmt.Errorf("%w: %w", errLost, err)
		case err != nil:
			return 0, err
		case ok && sender.Pid != 0:
			// Not from the kernel: any process may send to our port.
		case n > len(buf):
			return len(buf), errTruncated{need: n}
		default:
			return n, nil
		}
	}
}

// request sends a request, of a dump or for a single answer, and calls each with
// every answer until the last.
func (c *conn) request(req *nl.NetlinkRequest, each func(typ uint16, body []byte) error) error {
	if err := c.socket.Send(req); err != nil {
		return err
	}
	more := true
	handle := func(b []byte) (err error) {
		more, err = c.answers(req, b, each)
		return err
	}
	for more {
		if err := c.receive(handle); err != nil {
			return err
		}
	}
	return nil
}

// dump sends a request with NLM_F_DUMP, and calls each with every answer while the
// kernel, on another processor, already writes the next ones into spare, which is
// as long as the connection's own buffer. Nothing can be received afterwards.
func (c *conn) dump(req *nl.NetlinkRequest, spare []byte, each func(typ uint16, body []byte) error) error {
	if err := c.socket.Send(req); err != nil {
		return err
	}
	type datagram struct {
		buf []byte
		n   int
		err error
	}
	empty, full := make(chan []byte, 2), make(chan datagram, 2)
	empty <- c.buf
	empty <- spare
	go func() {
		defer close(full)
		for buf := range empty {
			n, err := c.fill(buf)
			if full <- (datagram{buf, n, err}); err != nil {
				return
			}
		}
	}()
	more := true
	var err error
	for more && err == nil {
		d := <-full
		if err = d.err; err == nil {
			more, err = c.answers(req, d.buf[:d.n], each)
		}
		clear(d.buf[:d.n])
		empty <- d.buf
	}
	close(empty)
	_ = c.file.SetReadDeadline(time.Unix(1, 0)) // it waits for a datagram that won't come
	for range full {
	}
	clear(spare) // close wipes the other one
	return err
}

// answers handles the answers to a request in one datagram and reports whether
// more will come.
func (c *conn) answers(req *nl.NetlinkRequest, b []byte, each func(typ uint16, body []byte) error) (more bool, err error) {
	more = true
	for len(b) > 0 && more {
		m, rest, err := next(b)
		if err != nil {
			return false, err
		}
		b = rest
		if m.seq != req.Seq || m.port != c.port {
			continue
		}
		if more, err = answer(&m, each); err != nil {
			return false, err
		}
	}
	return more, nil
}

// answer handles one message of an answer and reports whether more will come.
func answer(m *message, each func(typ uint16, body []byte) error) (more bool, err error) {
	if m.flags&unix.NLM_F_DUMP_INTR != 0 {
		return false, errInterrupted
	}
	switch m.typ {
	case unix.NLMSG_NOOP:
		return true, nil
	case unix.NLMSG_OVERRUN:
		return false, errLost
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		if len(m.body) < 4 {
			return false, nil
		}
		if code := int32(native.Uint32(m.body)); code != 0 {
			return false, unix.Errno(-code)
		}
		return false, nil
	}
	if err := each(m.typ, m.body); err != nil {
		return false, err
	}
	return m.flags&unix.NLM_F_MULTI != 0, nil
}
