package nftables

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/nftables/wire"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// seedMessages are messages as this package writes them, of a table with
// everything.
func seedMessages() [][]byte {
	want := everything()
	e := encoder{table: testTable, interval: intervals(want.Sets)}
	change := sets.Diff(sets.Table{}, want)
	var all []encoded
	e.stage(&all, change.Ops())
	out := make([][]byte, len(all))
	for i, m := range all {
		out[i] = m.bytes
	}
	return out
}

// The decoder reads the kernel's messages about tables that any program may have written.
// It must not fail on any bytes, and a rule that it makes out must be the one that it
// would write.
func FuzzDecode(f *testing.F) {
	for _, m := range seedMessages() {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := messages(b, func(m message) error {
			decodeGeneration(m.body)
			wire.DecodeTable(m.body)
			wire.DecodeChain(m.body)
			extended(m)
			s := wire.DecodeSet(m.body)
			for _, set := range []sets.Set{s.Set, {Key: fields(sets.InReqid, sets.Src4)}, {Key: fields(sets.Src4), Interval: true}, {}} {
				var read []wire.Element
				wire.DecodeElements(&set, m.body, func(e wire.Element) { read = append(read, e) })
				for _, e := range wire.Gather(&set, read) {
					_ = e.Text(set)
				}
			}
			interval := func(set string) bool { return strings.HasPrefix(set, "o") }
			_, r := wire.DecodeRule(m.body, interval, func(l *wire.Lookup) {})
			if strings.Contains(r.String(), "unknown expression") {
				return nil
			}
			for _, e := range wire.CompileRule(r.Terms, interval) {
				if _, ok := e.(wire.Unknown); ok {
					t.Errorf("rule %s has an unknown expression", r)
				}
			}
			return nil
		})
		_ = err
	})
}

func TestKernelWithoutParts(t *testing.T) {
	all := append(trials(), trial{}, trial{})
	last := len(all) - 1
	for _, tc := range []struct {
		name    string
		failed  map[int]unix.Errno
		want    Features
		message string
		is      error
	}{
		{"everything", nil, Features{Owner: true, Persist: true}, "", nil},
		{"before 6.9", map[int]unix.Errno{last: unix.EOPNOTSUPP}, Features{Owner: true}, "", nil},
		{"before 5.12", map[int]unix.Errno{last - 1: unix.EOPNOTSUPP, last: unix.EOPNOTSUPP}, Features{}, "", nil},
		{"without xfrm", map[int]unix.Errno{2: unix.ENOENT}, Features{}, "the kernel has no nft_xfrm: load the module, or set CONFIG_NFT_XFRM; on OpenWrt install kmod-nft-xfrm: no such file or directory", unix.ENOENT},
		{"without fib and nat", map[int]unix.Errno{3: unix.ENOENT, 8: unix.ENOENT}, Features{}, "nft_nat", nil},
		{"without privileges", map[int]unix.Errno{0: unix.EPERM}, Features{}, "CAP_NET_ADMIN", ErrPermission},
		{"without inet", map[int]unix.Errno{0: unix.EAFNOSUPPORT, 1: unix.ENOENT}, Features{}, "the kernel has no nf_tables: ", nil},
	} {
		got, err := judge(all, tc.failed, true, nil)
		switch {
		case got != tc.want:
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		case tc.message == "" && err != nil, tc.message != "" && (err == nil || !strings.Contains(err.Error(), tc.message)):
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.message)
		case tc.is != nil && !errors.Is(err, tc.is):
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.is)
		}
	}
	if _, err := judge(all, nil, false, nil); err == nil {
		t.Error("no answer is no error")
	}
}
