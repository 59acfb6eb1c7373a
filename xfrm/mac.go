package xfrm

import (
	"fmt"
	"net"
)

// MAC is the link-layer address of an Ethernet device; zero is none.
type MAC [6]byte

// String returns the address as ip link shows it, such as 02:00:00:00:00:01.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText writes the address as String does.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (m *MAC) UnmarshalText(text []byte) error {
	a, err := net.ParseMAC(string(text))
	if err != nil {
		return fmt.Errorf("parse link-layer address: %w", err)
	}
	if len(a) != len(m) {
		return fmt.Errorf("parse link-layer address %s: %d bytes, want %d", text, len(a), len(m))
	}
	*m = MAC(a)
	return nil
}
