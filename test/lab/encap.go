package lab

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Socket options of linux/udp.h that x/sys does not name.
const (
	udpEncap = 100
	udpGRO   = 104
	espInUDP = 2
)

// HoldUDPEncap opens a UDP socket that takes ESP out of UDP, as an IKE daemon does, until
// the test ends. A socket that is held already stays as it is. With gro, ESP may be
// decrypted in GRO, before netfilter sees the outer packet (strongSwan sets it since
// 6.0.2).
func (h *Host) HoldUDPEncap(t testing.TB, f Family, port int, gro bool) {
	t.Helper()
	held := fmt.Sprintf("%v %d", f, port)
	if h.encap[held] {
		return
	}
	var fd int
	err := h.Do(func() error {
		var err error
		fd, err = encapSocket(f, port, gro)
		return err
	})
	if err != nil {
		t.Fatalf("%s: UDP encapsulation on port %d (%v): %v", h.Name, port, f, err)
	}
	if h.encap == nil {
		h.encap = map[string]bool{}
	}
	h.encap[held] = true
	t.Cleanup(func() { unix.Close(fd) })
}

func encapSocket(f Family, port int, gro bool) (int, error) {
	domain, bind := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: port})
	if f == IPv6 {
		domain, bind = unix.AF_INET6, &unix.SockaddrInet6{Port: port}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	options := []struct {
		name                 string
		level, option, value int
		wanted               bool
	}{
		{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, f == IPv6},
		{"UDP_ENCAP", unix.IPPROTO_UDP, udpEncap, espInUDP, true},
		{"UDP_GRO", unix.IPPROTO_UDP, udpGRO, 1, gro},
	}
	for _, o := range options {
		if !o.wanted {
			continue
		}
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	if err := unix.Bind(fd, bind); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}
