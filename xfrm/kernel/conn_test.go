package kernel

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// pipe returns a conn that receives the messages that are written to the descriptor.
func pipe(t *testing.T, buffer int) (*conn, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{file: os.NewFile(uintptr(fds[0]), "test"), buf: make([]byte, buffer)}
	if c.raw, err = c.file.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.file.Close(); unix.Close(fds[1]) })
	return c, fds[1]
}

// datagram renders one netlink message.
func datagram(size uint32, typ, flags uint16, body string) []byte {
	b := native.AppendUint32(nil, size)
	b = native.AppendUint16(b, typ)
	b = native.AppendUint16(b, flags)
	b = native.AppendUint32(b, 5) // sequence
	b = native.AppendUint32(b, 6) // port
	return append(b, body...)
}

func TestReceive(t *testing.T) {
	secret := "SECRETSECRET"
	tests := []struct {
		name   string
		data   []byte
		bodies string
		err    string
	}{
		{"one", datagram(28, 0x10, 0, secret), secret, ""},
		{"two, the first of odd length", append(append(datagram(17, 0x10, 0, "A"), 0, 0, 0), datagram(28, 0x10, 0, secret)...), "A" + secret, ""},
		{"last without padding", datagram(17, 0x10, 0, "A"), "A", ""},
		{"half a header", datagram(16, 0, 0, "")[:9], "", "header is cut short"},
		{"length below the header", datagram(15, 0, 0, secret), "", "message is cut short"},
		{"length beyond the datagram", datagram(29, 0, 0, secret), "", "message is cut short"},
		{"garbage behind", append(datagram(28, 0x10, 0, secret), 1, 2, 3), secret, "header is cut short"},
		{"too long for the buffer", datagram(516, 0x10, 0, strings.Repeat("x", 500)), "", "datagram of 516 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, to := pipe(t, 128)
			if _, err := unix.Write(to, tt.data); err != nil {
				t.Fatal(err)
			}
			var bodies strings.Builder
			err := c.receive(func(b []byte) error {
				for len(b) > 0 {
					m, rest, err := next(b)
					if err != nil {
						return err
					}
					bodies.Write(m.body)
					b = rest
				}
				return nil
			})
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got error %v, want %q", err, tt.err)
			}
			if bodies.String() != tt.bodies {
				t.Errorf("got %q, want %q", bodies.String(), tt.bodies)
			}
			if !bytes.Equal(c.buf, make([]byte, len(c.buf))) {
				t.Errorf("the buffer is not wiped: %q", c.buf)
			}
		})
	}
}

func TestAnswer(t *testing.T) {
	code := func(errno unix.Errno) []byte { return native.AppendUint32(nil, uint32(-int32(errno))) }
	mine := errors.New("mine")
	tests := []struct {
		name string
		m    message
		more bool
		err  error
	}{
		{"part of a dump", message{typ: 0x10, flags: unix.NLM_F_MULTI}, true, nil},
		{"single answer", message{typ: 0x10}, false, nil},
		{"end", message{typ: unix.NLMSG_DONE, flags: unix.NLM_F_MULTI}, false, nil},
		{"end with status", message{typ: unix.NLMSG_DONE, flags: unix.NLM_F_MULTI, body: code(0)}, false, nil},
		{"failed dump", message{typ: unix.NLMSG_DONE, flags: unix.NLM_F_MULTI, body: code(unix.ENOMEM)}, false, unix.ENOMEM},
		{"acknowledgement", message{typ: unix.NLMSG_ERROR, body: code(0)}, false, nil},
		{"error", message{typ: unix.NLMSG_ERROR, body: code(unix.EPERM)}, false, unix.EPERM},
		{"nothing", message{typ: unix.NLMSG_NOOP}, true, nil},
		{"overrun", message{typ: unix.NLMSG_OVERRUN}, false, errLost},
		{"interrupted", message{typ: 0x10, flags: unix.NLM_F_MULTI | unix.NLM_F_DUMP_INTR}, false, errInterrupted},
		{"refused by the caller", message{typ: 0x77, flags: unix.NLM_F_MULTI}, false, mine},
	}
	for _, tt := range tests {
		more, err := answer(&tt.m, func(typ uint16, _ []byte) error {
			if typ == 0x77 {
				return mine
			}
			return nil
		})
		if more != tt.more || !errors.Is(err, tt.err) {
			t.Errorf("%s: got %t, %v; want %t, %v", tt.name, more, err, tt.more, tt.err)
		}
	}
}

// Any process with the right may send to our port: that is not the kernel.
func TestForeignSender(t *testing.T) {
	netns(t)
	w := watch(t)
	other, err := nl.Subscribe(unix.NETLINK_XFRM)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: w.conn.port}
	if err := unix.Sendto(other.GetFd(), datagram(16, 0x10, 0, ""), 0, to); err != nil {
		t.Skipf("send from socket to socket: %v", err)
	}
	ip(t, "xfrm policy add src 10.0.0.0/8 dst 10.0.0.0/8 dir in")
	run(t, w)
	waitDirty(t, w)
	if c := w.Counts(); total(c) != 1 {
		t.Errorf("got %+v, want one event", c)
	}
}

func TestInfoAttr(t *testing.T) {
	good := append([]byte{0, 0, 0, 0, 6, 0, 9, 0, 1, 2, 0, 0}, 8, 0, 1, 0, 7, 0, 0, 0)
	if native.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are little-endian")
	}
	if got := infoAttr(good, 1); !bytes.Equal(got, []byte{7, 0, 0, 0}) {
		t.Errorf("got %v", got)
	}
	for n := range good {
		if got := infoAttr(good[:n], 1); got != nil {
			t.Errorf("%d bytes: got %v", n, got)
		}
	}
}
