package sample

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// AnyIPv4 is the selector of all IPv4 packets.
var AnyIPv4 = xfrm.Selector{
	Family: xfrm.IPv4,
	Src:    netip.MustParsePrefix("0.0.0.0/0"),
	Dst:    netip.MustParsePrefix("0.0.0.0/0"),
}

// State is a state of ESP in tunnel mode, for tests of single records.
func State() xfrm.State {
	return xfrm.State{
		Family:   xfrm.IPv4,
		Src:      netip.MustParseAddr("192.0.2.1"),
		Dst:      netip.MustParseAddr("198.51.100.2"),
		SPI:      0xc0000001,
		Proto:    xfrm.ESP,
		Mode:     xfrm.TunnelMode,
		Reqid:    11,
		Selector: AnyIPv4,
	}
}

// Policy is a policy without templates.
func Policy() xfrm.Policy {
	return xfrm.Policy{
		Selector: xfrm.Selector{
			Family: xfrm.IPv4,
			Src:    netip.MustParsePrefix("10.1.0.0/24"),
			Dst:    netip.MustParsePrefix("10.2.0.0/24"),
		},
		Priority: 375423,
		Index:    8,
	}
}

// Template is one that State serves.
func Template() xfrm.Template {
	return xfrm.Template{
		Family: xfrm.IPv4,
		Src:    netip.MustParseAddr("192.0.2.1"),
		Dst:    netip.MustParseAddr("198.51.100.2"),
		Proto:  xfrm.ESP,
		Mode:   xfrm.TunnelMode,
		Reqid:  11,
	}
}

// With returns a value that is changed in one respect.
func With[T any](v T, set func(*T)) T {
	set(&v)
	return v
}

// Mapped is a prefix of IPv4 addresses in IPv6, which netip writes in another form.
func Mapped(ipv4 string, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16(netip.MustParseAddr(ipv4).As16()), bits)
}

// Rewritten returns an error unless a snapshot's JSON form reads and writes alike.
func Rewritten(s xfrm.Snapshot) error {
	var first, second bytes.Buffer
	if err := s.WriteJSON(&first); err != nil {
		return err
	}
	again, err := xfrm.ReadJSON(bytes.NewReader(first.Bytes()))
	if err != nil {
		return fmt.Errorf("%w in %s", err, first.Bytes())
	}
	if err := again.WriteJSON(&second); err != nil {
		return err
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		return fmt.Errorf("not the same again:\n%s\nand\n%s", first.Bytes(), second.Bytes())
	}
	return nil
}
