package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Commands and attributes of the netlink family "l2tp" (linux/l2tp.h).
const (
	l2tpTunnelGet  = 4
	l2tpSessionGet = 8

	l2tpEncapType = 2
	l2tpIfname    = 8
	l2tpConnID    = 9
	l2tpSAddr     = 24
	l2tpDAddr     = 25
	l2tpSPort     = 26
	l2tpDPort     = 27
	l2tpSAddr6    = 31
	l2tpDAddr6    = 32

	l2tpEncapUDP = 0
)

// l2tpTunnel is the carrier of a tunnel's sessions.
type l2tpTunnel struct {
	local, remote netip.Addr
	// port is the UDP port on which we receive, 0 for L2TP as an IP protocol.
	port uint16
}

// readL2TP adds to the links the carriers of kernel L2TP sessions: their
// driver tells rtnetlink nothing, not even its name.
func readL2TP(h *xfrm.Host) error {
	// To ask for the family would load the module.
	if _, err := os.Stat("/sys/module/l2tp_netlink"); err != nil {
		return nil
	}
	family, err := netlink.GenlFamilyGet("l2tp")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find L2TP: %w", err)
	}
	tunnels := make(map[uint32]l2tpTunnel)
	err = l2tpDump(family, l2tpTunnelGet, func(a l2tpAttributes) {
		tunnels[a.u32(l2tpConnID)] = a.tunnel()
	})
	if err != nil || len(tunnels) == 0 {
		return err
	}
	return l2tpDump(family, l2tpSessionGet, func(a l2tpAttributes) {
		t, ok := tunnels[a.u32(l2tpConnID)]
		name := a.text(l2tpIfname)
		for i := range h.Links {
			if l := &h.Links[i]; ok && l.Name == name && l.Kind == "" {
				l.Kind, l.Local, l.Remote, l.Port = "l2tp", t.local, t.remote, t.port
			}
		}
	})
}

// l2tpAttributes are those of one message.
type l2tpAttributes map[uint16][]byte

func l2tpDump(family *netlink.GenlFamily, command uint8, each func(l2tpAttributes)) error {
	request := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_DUMP)
	request.AddData(&nl.Genlmsg{Command: command, Version: nl.GENL_CTRL_VERSION})
	messages, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return fmt.Errorf("list L2TP: %w", err)
	}
	for _, m := range messages {
		if a := parseL2TP(m); a != nil {
			each(a)
		}
	}
	return nil
}

// parseL2TP reads a message, nil if it is none.
func parseL2TP(message []byte) l2tpAttributes {
	if len(message) < nl.SizeofGenlmsg {
		return nil
	}
	list, err := nl.ParseRouteAttr(message[nl.SizeofGenlmsg:])
	if err != nil {
		return nil
	}
	a := make(l2tpAttributes, len(list))
	for _, attr := range list {
		a[attr.Attr.Type] = attr.Value
	}
	return a
}

func (a l2tpAttributes) u32(kind uint16) uint32 {
	if len(a[kind]) < 4 {
		return 0
	}
	return nl.NativeEndian().Uint32(a[kind])
}

func (a l2tpAttributes) u16(kind uint16) uint16 {
	if len(a[kind]) < 2 {
		return 0
	}
	return nl.NativeEndian().Uint16(a[kind])
}

func (a l2tpAttributes) text(kind uint16) string { return unix.ByteSliceToString(a[kind]) }

func (a l2tpAttributes) tunnel() l2tpTunnel {
	t := l2tpTunnel{local: outer(a[l2tpSAddr]), remote: outer(a[l2tpDAddr])}
	if !t.remote.IsValid() {
		t.local, t.remote = outer(a[l2tpSAddr6]), outer(a[l2tpDAddr6])
	}
	if a.u16(l2tpEncapType) == l2tpEncapUDP {
		t.port = a.u16(l2tpSPort)
	}
	return t
}
