package firewall

import (
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func saved(t *testing.T, rules ...string) map[Family]Save {
	t.Helper()
	s, err := ParseSave([]byte("*mangle\n:PREROUTING ACCEPT [0:0]\n[0:0] -A PREROUTING " +
		strings.Join(rules, "\n[0:0] -A PREROUTING ") + "\nCOMMIT\n"))
	if err != nil {
		t.Fatal(err)
	}
	return map[Family]Save{xfrm.IPv4: s}
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
		for _, m := range ForeignMarks(saved(t, rule), DefaultMarks()) {
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

func TestMarksThatAreFree(t *testing.T) {
	s := snapshotOf(sunHost(), sunSite())
	if err := CheckMarks(s, nil, DefaultMarks()); err != nil {
		t.Errorf("nothing clashes: %v", err)
	}
	s.Host.Rules = []xfrm.RoutingRule{{Priority: 100, Mark: xfrm.Mark{Value: 0x10000000, Mask: 0xff000000}}}
	err := CheckMarks(s, saved(t, "-j MARK --set-xmark 0x1/0xf00000"), DefaultMarks())
	if err == nil || !strings.Contains(err.Error(), "0x10000000/0xff000000") || !strings.Contains(err.Error(), "{tag: 0x40000, verified: 0x80000}") {
		t.Errorf("a routing rule over our bits: %v", err)
	}
	if m, ok := FreeMarks(0); !ok || m != DefaultMarks() {
		t.Errorf("all free: %+v", m)
	}
	if _, ok := FreeMarks(^uint32(1)); ok {
		t.Error("found a pair where only one bit is free")
	}
	s.Host.Rules[0].Mark.Mask = ^uint32(0)
	if err := CheckMarks(s, nil, DefaultMarks()); err == nil || !strings.Contains(err.Error(), "narrow") {
		t.Errorf("a routing rule over all bits: %v", err)
	}
}
