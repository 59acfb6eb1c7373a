package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// A Stream is a hundred numbered datagrams a second from one host to another, until it is stopped.
type Stream struct {
	Name string
	Sent int // known after Stop

	to        *Inbox
	end, done chan struct{}
}

// Stream starts to send from the host's inner address to an inbox. The datagrams begin with the name, so that streams can
// share an inbox.
func (h *Host) Stream(t testing.TB, name string, to *Inbox) *Stream {
	t.Helper()
	s := &Stream{Name: name, to: to, end: make(chan struct{}), done: make(chan struct{})}
	box := h.ListenUDP(t, netip.AddrPortFrom(h.Inner(FamilyOf(to.Addr.Addr())), 7001))
	go func() {
		defer close(s.done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-s.end:
				return
			case <-tick.C:
			}
			switch err := box.Send(to.Addr, s.datagram(s.Sent)); {
			case errors.Is(err, net.ErrClosed): // the test has ended
				return
			case err != nil:
				t.Errorf("%s: %v", name, err)
				return
			}
			s.Sent++
		}
	}()
	return s
}

func (s *Stream) datagram(number int) string { return fmt.Sprint(s.Name, " ", number) }

// Stop ends the sending.
func (s *Stream) Stop() {
	close(s.end)
	<-s.done
}

// underWay is how long a packet may be on its way.
const underWay = 20 * time.Second

// Lost are the numbers that did not arrive, after a wait for packets on their way.
func (s *Stream) Lost() []int {
	lost := s.missing()
	for deadline := time.Now().Add(underWay); len(lost) > 0 && time.Now().Before(deadline); lost = s.missing() {
		time.Sleep(100 * time.Millisecond)
	}
	return lost
}

func (s *Stream) missing() []int {
	got := make(map[string]bool)
	for _, d := range s.to.Datagrams() {
		got[d.Payload] = true
	}
	var lost []int
	for i := range s.Sent {
		if !got[s.datagram(i)] {
			lost = append(lost, i)
		}
	}
	return lost
}
