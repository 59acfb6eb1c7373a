package e2e

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestSegmentSizeOnTheWire compares the segment size that both ends of a TCP connection
// ask each other for, as it comes out of the tunnel, with the room that the standards
// leave.
func TestSegmentSizeOnTheWire(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	for _, test := range []struct {
		name   string
		tunnel lab.IPsec
		// 1500, without the outer IP header, UDP, ESP's header, IV and ICV, cut to 4, without ESP's trailer and the
		// inner headers.
		want uint16
	}{
		{"v4", lab.IPsec{}, (1500-20-8-8-16)/4*4 - 2 - 20 - 20},
		{"v6", lab.IPsec{Inner: lab.IPv6}, (1500-40-8-8-16)/4*4 - 2 - 40 - 20},
		{"nat traversal", lab.IPsec{NATT: true}, (1500-20-8-8-8-16)/4*4 - 2 - 20 - 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := lab.NewNetwork(t)
			f := max(test.tunnel.Inner, lab.IPv4)
			n.Up(t, test.tunnel)
			configure(t, n.Sun, "tunnels:\n  - match: {reqid: 11}\n    mss: auto\n")
			n.Sun.MustXfrmfw(t, "apply")
			atBob, atAlice := n.Bob.Capture(t, "eth0"), n.Alice.Capture(t, "eth0")
			for _, ends := range [][2]*lab.Host{{n.Alice, n.Bob}, {n.Bob, n.Alice}} {
				at := ends[1].ServeTCP(t, netip.AddrPortFrom(ends[1].Inner(f), 7000))
				conn, err := ends[0].DialTCP(t, netip.AddrPort{}, at, lab.Patience)
				if err != nil {
					t.Fatal(err)
				}
				if err := lab.EchoTCP(conn, string(make([]byte, 50_000)), lab.Patience); err != nil {
					t.Fatal(err)
				}
			}
			for name, c := range map[string]*lab.Capture{"bob": atBob, "alice": atAlice} {
				seen := 0
				for _, frame := range c.Frames(t) {
					if size, ok := segmentSize(frame); ok && !frame.Outgoing {
						seen++
						if size != test.want {
							t.Errorf("%s is asked for segments of %d, want %d: %v", name, size, test.want, frame)
						}
					}
				}
				if seen < 2 { // the SYN of one connection and the SYN,ACK of the other
					t.Errorf("%s: %d segments with a size came in, want 2", name, seen)
				}
			}
		})
	}
}

// segmentSize reads the option of a TCP segment that has SYN set.
func segmentSize(f lab.Frame) (uint16, bool) {
	tcp := f.Payload
	if f.Proto != 6 || len(tcp) < 20 || tcp[13]&0x02 == 0 {
		return 0, false
	}
	options := tcp[20:min(int(tcp[12]>>4)*4, len(tcp))]
	for len(options) >= 2 {
		switch kind, size := options[0], int(options[1]); {
		case kind == 2 && len(options) >= 4:
			return binary.BigEndian.Uint16(options[2:]), true
		case kind == 1:
			options = options[1:]
		case kind == 0 || size < 2 || size > len(options):
			return 0, false
		default:
			options = options[size:]
		}
	}
	return 0, false
}
