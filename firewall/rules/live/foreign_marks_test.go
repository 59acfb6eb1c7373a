package live

import (
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func saved(t *testing.T, rules ...string) map[xfrm.Family]Tables {
	t.Helper()
	s, err := Parse([]byte("*mangle\n:PREROUTING ACCEPT [0:0]\n[0:0] -A PREROUTING " +
		strings.Join(rules, "\n[0:0] -A PREROUTING ") + "\nCOMMIT\n"))
	if err != nil {
		t.Fatal(err)
	}
	return map[xfrm.Family]Tables{xfrm.IPv4: s}
}

func TestForeignMarks(t *testing.T) {
	for rule, want := range map[string]string{
		"-j MARK --set-xmark 0x1/0x1":                                        "",
		"-j MARK --set-xmark 0x1/0xffffffff":                                 "clears",
		"-j MARK --set-xmark 0x30000000/0x30000000":                          "sets",
		"-j MARK --set-xmark 0x0/0x20000000":                                 "clears",
		"-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff":    "",
		"-j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff": "sets",
		"-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff":             "",
		"-j CONNMARK --set-xmark 0x20000000/0x20000000":                      "",
		"-p tcp -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1": "",
		"-m comment --comment \"-j MARK --set-xmark 0xffffffff\" -j ACCEPT":  "",
		"-m comment --comment xfrmfw:AAAAAAAAAAAA/jump -j XFRMFW-PRE":        "",
	} {
		got := ""
		for _, m := range ForeignMarks(saved(t, rule), 1<<28|1<<29) {
			got = "clears"
			if m.Sets {
				got = "sets"
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", rule, got, want)
		}
	}
}

func TestWrittenMarks(t *testing.T) {
	for rule, want := range map[string]uint32{
		"-j MARK --set-xmark 0x1/0xf00000":                                   0xf00000,
		"-j MARK --set-xmark 0x1/0xffffffff":                                 1,
		"-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff":             0xff,
		"-j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff": ^uint32(0),
		"-m mark --mark 0x1/0x1 -j ACCEPT":                                   0,
	} {
		if got := WrittenMarks(saved(t, rule)); got != want {
			t.Errorf("%s: %#x, want %#x", rule, got, want)
		}
	}
}
