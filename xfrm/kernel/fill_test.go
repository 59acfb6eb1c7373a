package kernel

import (
	"encoding/binary"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// filler writes policies and larval states into the kernel through one socket.
// It knows the layout of 64-bit architectures only.
type filler struct{ sockets map[int]*nl.SocketHandle }

func newFiller(t testing.TB) *filler {
	t.Helper()
	s, err := nl.Subscribe(unix.NETLINK_XFRM)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &filler{map[int]*nl.SocketHandle{unix.NETLINK_XFRM: {Socket: s}}}
}

func (f *filler) do(t testing.TB, typ, flags int, body []byte) {
	t.Helper()
	req := nl.NewNetlinkRequest(typ, flags)
	req.Sockets = f.sockets
	req.AddRawData(body)
	if _, err := req.Execute(unix.NETLINK_XFRM, 0); err != nil {
		t.Fatalf("XFRM message %#x: %v", typ, err)
	}
}

// policy adds policy n in direction 0 to 2, with one template.
func (f *filler) policy(t testing.TB, n uint32, dir byte) {
	t.Helper()
	b := make([]byte, 168+4+64)
	binary.BigEndian.PutUint32(b[0:], 10<<24)        // destination 10.0.0.0/8
	binary.BigEndian.PutUint32(b[16:], 172<<24|n<<2) // source 172.x.y.z/30
	native.PutUint16(b[40:], unix.AF_INET)
	b[42], b[43] = 8, 30
	for i := 56; i < 88; i += 8 {
		native.PutUint64(b[i:], ^uint64(0)) // no limits of bytes and packets
	}
	native.PutUint32(b[152:], 1000+n%5)
	b[160] = dir
	native.PutUint16(b[168:], 4+64)
	native.PutUint16(b[170:], 5) // XFRMA_TMPL
	t0 := b[172:]
	copy(t0, []byte{198, 51, 100, 2})
	t0[20] = 50
	native.PutUint16(t0[24:], unix.AF_INET)
	binary.BigEndian.PutUint32(t0[28:], 203<<24|n)
	native.PutUint32(t0[44:], n+1)
	t0[48] = 1
	for i := 52; i < 64; i++ {
		t0[i] = 0xff
	}
	f.do(t, nl.XFRM_MSG_NEWPOLICY, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
}

// state allocates larval state n.
func (f *filler) state(t testing.TB, n uint32) {
	t.Helper()
	b := make([]byte, 232) // struct xfrm_userspi_info
	native.PutUint16(b[40:], unix.AF_INET)
	binary.BigEndian.PutUint32(b[56:], 198<<24|n)
	b[76] = 50
	binary.BigEndian.PutUint32(b[80:], 203<<24|n)
	native.PutUint32(b[208:], n+1)
	native.PutUint16(b[212:], unix.AF_INET)
	b[214] = 1
	native.PutUint32(b[224:], 0x10000+n) // least SPI
	native.PutUint32(b[228:], 0x10000+n) // greatest SPI
	f.do(t, nl.XFRM_MSG_ALLOCSPI, 0, b)
}
