package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Pings is the outcome of a series of pings.
type Pings struct {
	Sent, Received int
	Output         string // of ping, for a failure
}

func (p Pings) String() string { return fmt.Sprintf("%d of %d", p.Received, p.Sent) }

var pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// Ping sends pings to an address and counts the answers. Further words of ping may follow, such as -s 1000 or
// -I ADDRESS.
func (h *Host) Ping(t testing.TB, dst netip.Addr, count int, words ...string) Pings {
	t.Helper()
	args := append([]string{"-n", "-i", "0.05", "-W", "2", "-c", strconv.Itoa(count)}, words...)
	result := h.Try(t, "", "ping", append(args, dst.String())...)
	found := pingSummary.FindStringSubmatch(result.Stdout)
	if found == nil { // ping itself failed, as when there is no route
		return Pings{Sent: count, Output: result.Stdout + result.Stderr}
	}
	sent, _ := strconv.Atoi(found[1])
	received, _ := strconv.Atoi(found[2])
	return Pings{Sent: sent, Received: received, Output: result.Stdout + result.Stderr}
}

// MustPing fails the test unless all pings are answered.
func (h *Host) MustPing(t testing.TB, dst netip.Addr, count int, words ...string) {
	t.Helper()
	if p := h.Ping(t, dst, count, words...); p.Received != p.Sent {
		t.Fatalf("%s: ping %s: %v answered\n%s", h.Name, dst, p, indent("output", p.Output))
	}
}

// MustNotPing fails the test if any ping is answered.
func (h *Host) MustNotPing(t testing.TB, dst netip.Addr, count int, words ...string) {
	t.Helper()
	if p := h.Ping(t, dst, count, words...); p.Received != 0 {
		t.Fatalf("%s: ping %s: %v answered, want none\n%s", h.Name, dst, p, indent("output", p.Output))
	}
}

// A Datagram is a UDP message that reached a host.
type Datagram struct {
	From    netip.AddrPort
	Payload string
}

// An Inbox is a UDP socket of a host and the datagrams that arrived there.
type Inbox struct {
	// Addr is the address that the socket is bound to.
	Addr netip.AddrPort

	conn      *net.UDPConn
	mu        sync.Mutex
	datagrams []Datagram
}

// ListenUDP opens a UDP socket until the test ends. An unspecified address listens on all of its family.
func (h *Host) ListenUDP(t testing.TB, at netip.AddrPort) *Inbox {
	t.Helper()
	inbox := &Inbox{}
	err := h.Do(func() error {
		var err error
		inbox.conn, err = net.ListenUDP(udpNetwork(at.Addr()), net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	inbox.Addr = inbox.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	t.Cleanup(func() { inbox.conn.Close() })
	go inbox.receive()
	return inbox
}

func (i *Inbox) receive() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := i.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error for something that this socket sent
		}
		i.mu.Lock()
		i.datagrams = append(i.datagrams, Datagram{netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), string(buf[:n])})
		i.mu.Unlock()
	}
}

// Datagrams are those that have arrived so far.
func (i *Inbox) Datagrams() []Datagram {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]Datagram(nil), i.datagrams...)
}

// Count is how many datagrams with that payload have arrived so far.
func (i *Inbox) Count(payload string) int {
	count := 0
	for _, d := range i.Datagrams() {
		if d.Payload == payload {
			count++
		}
	}
	return count
}

// Send answers from the listening socket.
func (i *Inbox) Send(dst netip.AddrPort, payload string) error {
	_, err := i.conn.WriteToUDPAddrPort([]byte(payload), dst)
	return err
}

// SendUDP sends datagrams from a fresh socket. The zero src lets the kernel choose.
func (h *Host) SendUDP(t testing.TB, src, dst netip.AddrPort, payload string, count int) {
	t.Helper()
	err := h.Do(func() error {
		var local *net.UDPAddr
		if src.IsValid() {
			local = net.UDPAddrFromAddrPort(src)
		}
		conn, err := net.DialUDP(udpNetwork(dst.Addr()), local, net.UDPAddrFromAddrPort(dst))
		if err != nil {
			return err
		}
		defer conn.Close()
		for range count {
			// A firewall's REJECT of the one before is the error of this one: it is for the receiver to count.
			if _, err := conn.Write([]byte(payload)); err != nil {
				conn.Write([]byte(payload))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: send to %v: %v", h.Name, dst, err)
	}
}

// ServeTCP echoes the data of TCP clients until the test ends. It returns the address
// that it listens on.
func (h *Host) ServeTCP(t testing.TB, at netip.AddrPort) netip.AddrPort {
	t.Helper()
	var listener net.Listener
	err := h.Do(func() error {
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		var err error
		listener, err = config.Listen(context.Background(), "tcp", at.String())
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

// DialTCP connects to a TCP server. The zero src lets the kernel choose. The connection is closed when the test ends.
func (h *Host) DialTCP(t testing.TB, src, dst netip.AddrPort, limit time.Duration) (net.Conn, error) {
	t.Helper()
	var conn net.Conn
	err := h.Do(func() error {
		dialer := net.Dialer{Timeout: limit, KeepAlive: -1}
		dialer.SetMultipathTCP(false)
		if src.IsValid() {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(src)
		}
		var err error
		conn, err = dialer.Dial("tcp", dst.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Name, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, nil
}

// EchoTCP sends a message over a connection to a ServeTCP and waits for its echo.
func EchoTCP(conn net.Conn, message string, limit time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	go io.WriteString(conn, message)
	got := make([]byte, len(message))
	if _, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("echo of %d bytes: %w", len(message), err)
	}
	if string(got) != message {
		return errors.New("the echo differs from the message")
	}
	return nil
}

func udpNetwork(a netip.Addr) string {
	if a.Is4() {
		return "udp4"
	}
	return "udp6"
}
