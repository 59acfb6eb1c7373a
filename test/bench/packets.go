package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A packet's cost is measured in many short windows. In each, one gateway gets as many
// packets as go through it. Windows of gateways that are compared take turns, so that
// other load of the machine hits all of them.

// schedule is how long is measured.
type schedule struct {
	passes, windows int
	window          time.Duration
	// paired compares windows with those beside them.
	paired bool
}

// flow is a flow of datagrams between two addresses, from one port, or each from another.
type flow struct {
	src, dst netip.Addr
	fresh    bool
}

// flowPort is the port at both ends of a flow.
const flowPort = 9999

// flowSender sends a flow from the namespace that it was made in. All packets are
// made beforehand, and sent by one call for each burst.
type flowSender struct {
	fd      int
	packets [][]byte
	vectors []unix.Iovec
	headers []message
	to      unix.RawSockaddrInet4
	next    uint16
	fresh   bool
	// yields has the receivers' work done before more is sent, where the kernel
	// may have put it off.
	yields bool
	sent   int
}

// message is struct mmsghdr.
type message struct {
	unix.Msghdr
	sent uint32
	_    [4]byte
}

const (
	burst   = 64
	payload = 64
)

// newFlowSender makes a sender in the namespace of this thread.
func newFlowSender(f flow) (*flowSender, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	// The source address is part of the lookup of policies.
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: f.src.As4()}); err != nil {
		return nil, fmt.Errorf("bind to %s: %w", f.src, err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20); err != nil {
		return nil, err
	}
	s := &flowSender{fd: fd, fresh: f.fresh, to: unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: f.dst.As4()}}
	s.packets, s.vectors, s.headers = make([][]byte, burst), make([]unix.Iovec, burst), make([]message, burst)
	for i := range s.packets {
		s.packets[i] = datagram(f)
		s.vectors[i].Base = &s.packets[i][0]
		s.vectors[i].SetLen(len(s.packets[i]))
		s.headers[i].Name, s.headers[i].Namelen = (*byte)(unsafe.Pointer(&s.to)), unix.SizeofSockaddrInet4
		s.headers[i].Iov, s.headers[i].Iovlen = &s.vectors[i], 1
	}
	return s, nil
}

// datagram is a packet of IPv4 and UDP; the kernel fills in the checksum of the
// one, and the other needs none.
func datagram(f flow) []byte {
	p := make([]byte, 28+payload)
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	src, dst := f.src.As4(), f.dst.As4()
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[20:], flowPort)
	binary.BigEndian.PutUint16(p[22:], flowPort)
	binary.BigEndian.PutUint16(p[24:], 8+payload)
	return p
}

func (s *flowSender) close() { _ = unix.Close(s.fd) }

// burst sends some packets.
func (s *flowSender) burst() error {
	if s.fresh {
		for _, p := range s.packets {
			s.next = s.next%60000 + 1
			binary.BigEndian.PutUint16(p[20:], 5000+s.next)
		}
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.headers[0])), burst, 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("sendmmsg: %w", errno)
	}
	s.sent += int(n)
	if s.yields {
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
	return nil
}

// cost is the time that a packet of a sender's flow takes.
type cost struct {
	// ns is the median over the passes of the lower quartile of its windows.
	ns float64
	// ratio is that to the first sender. Where windows are paired it is the median
	// of each window's to the one beside it, as a virtual machine that is slowed
	// down is so for both; elsewhere it is that of the quartiles, as here and there
	// a window is interrupted.
	ratio float64
}

// measure returns the cost of a packet of each sender. between is run before each window,
// and its time does not count.
func (s schedule) measure(senders []*flowSender, between func(i int) error) ([]cost, error) {
	quartiles, ratios := make([][]float64, len(senders)), make([][]float64, len(senders))
	for range s.passes {
		costs := make([][]float64, len(senders))
		for range s.windows {
			for i, sender := range senders {
				if err := between(i); err != nil {
					return nil, err
				}
				took, err := s.one(sender)
				if err != nil {
					return nil, err
				}
				costs[i] = append(costs[i], took)
				ratios[i] = append(ratios[i], took/costs[0][len(costs[0])-1])
			}
		}
		for i, c := range costs {
			quartiles[i] = append(quartiles[i], quantile(c, 0.25))
		}
	}
	out := make([]cost, len(senders))
	for i := range out {
		out[i].ns = quantile(quartiles[i], 0.5)
		if out[i].ratio = out[i].ns / out[0].ns; s.paired {
			out[i].ratio = quantile(ratios[i], 0.5)
		}
	}
	return out, nil
}

// one is the time of a packet in one window, in ns.
func (s schedule) one(sender *flowSender) (float64, error) {
	if err := sender.burst(); err != nil { // warms the caches
		return 0, err
	}
	before, start := sender.sent, time.Now()
	for time.Since(start) < s.window {
		if err := sender.burst(); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(start).Nanoseconds()) / float64(sender.sent-before), nil
}

// quantile sorts the values.
func quantile(values []float64, at float64) float64 {
	slices.Sort(values)
	return values[int(at*float64(len(values)))]
}
