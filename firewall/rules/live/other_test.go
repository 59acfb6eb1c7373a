package live

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The rules of others are told by their place and by the most that they may do.
func TestOthers(t *testing.T) {
	have, err := Parse([]byte(`*mangle
:PREROUTING ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:THEIRS - [0:0]
:XFRMFW-FWD - [0:0]
-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff
-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0x200000ff
-A PREROUTING -j LOG
-A FORWARD -s 10.1.0.0/24 -j ACCEPT
-A FORWARD -i eth+ -j DROP
-A FORWARD -i eth+ -j RETURN
-A FORWARD -m comment --comment "xfrmfw:abcdefghi_-9/jump" -j XFRMFW-FWD
-A FORWARD -m time --timestart 08:00 -j THEIRS
-A FORWARD -j NFQUEUE --queue-num 1
-A FORWARD -j FANCY
-A THEIRS -j RETURN
-A THEIRS -j MARK --set-xmark 0x20000000/0x20000000
-A THEIRS -j MARK --set-xmark 0x1/0xffffffff
-A THEIRS -j MARK --set-xmark 0x20000000/0x0
-A XFRMFW-FWD -s 10.9.0.0/16 -j ACCEPT
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p udp -j NOTRACK
-A PREROUTING -p tcp -j CT --notrack
-A PREROUTING -j CT --zone 3
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -o eth0 -j MASQUERADE
COMMIT
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range Others(xfrm.IPv4, have) {
		got = append(got, fmt.Sprintf("%s %d: before %t, read %t, ends %t stops %t, writes %#x sets %#x, rewrites %t, untracks %t: %s", o.Hook, o.Priority, o.Before, o.Read, o.Ends, o.Stops, o.Writes, o.Sets, o.Rewrites, o.Untracks, o.Text))
	}
	want := []string{
		"PREROUTING -150: before false, read false, ends false stops false, writes 0xff sets 0xff, rewrites false, untracks false: -t mangle -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
		"PREROUTING -150: before false, read false, ends false stops false, writes 0x200000ff sets 0x200000ff, rewrites false, untracks false: -t mangle -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0x200000ff",
		"FORWARD -150: before true, read true, ends true stops false, writes 0x0 sets 0x0, rewrites false, untracks false: -t mangle -A FORWARD -s 10.1.0.0/24 -j ACCEPT",
		"FORWARD -150: before true, read false, ends true stops false, writes 0x0 sets 0x0, rewrites false, untracks false: -t mangle -A FORWARD -i eth+ -j RETURN",
		"FORWARD -150: before false, read true, ends false stops false, writes 0x20000000 sets 0x20000000, rewrites false, untracks false: -t mangle -A THEIRS -j MARK --set-xmark 0x20000000/0x20000000",
		"FORWARD -150: before false, read true, ends false stops false, writes 0xffffffff sets 0x1, rewrites false, untracks false: -t mangle -A THEIRS -j MARK --set-xmark 0x1/0xffffffff",
		"FORWARD -150: before false, read true, ends false stops false, writes 0x20000000 sets 0x20000000, rewrites false, untracks false: -t mangle -A THEIRS -j MARK --set-xmark 0x20000000/0x0",
		"FORWARD -150: before false, read false, ends true stops true, writes 0xffffffff sets 0xffffffff, rewrites false, untracks false: -t mangle -A FORWARD -j NFQUEUE --queue-num 1",
		"FORWARD -150: before false, read true, ends true stops false, writes 0xffffffff sets 0xffffffff, rewrites true, untracks false: -t mangle -A FORWARD -j FANCY",
		"PREROUTING -150: before true, read true, ends true stops false, writes 0x0 sets 0x0, rewrites false, untracks false: -t mangle -A XFRMFW-FWD -s 10.9.0.0/16 -j ACCEPT",
		"FORWARD -150: before true, read true, ends true stops false, writes 0x0 sets 0x0, rewrites false, untracks false: -t mangle -A XFRMFW-FWD -s 10.9.0.0/16 -j ACCEPT",
		"PREROUTING -300: before false, read true, ends false stops false, writes 0x0 sets 0x0, rewrites false, untracks true: -t raw -A PREROUTING -p udp -j NOTRACK",
		"PREROUTING -300: before false, read true, ends false stops false, writes 0x0 sets 0x0, rewrites false, untracks true: -t raw -A PREROUTING -p tcp -j CT --notrack",
		"POSTROUTING 100: before false, read true, ends false stops false, writes 0x0 sets 0x0, rewrites true, untracks false: -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("wanted -, got +:\n%s", diff)
	}
	if list := Others(xfrm.IPv4, Tables{}); !slices.Equal(list, nil) {
		t.Errorf("no tables: %v", list)
	}
}
