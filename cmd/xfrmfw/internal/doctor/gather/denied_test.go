package gather

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
)

// TestDenials reads records as the kernel and auditd write them.
func TestDenials(t *testing.T) {
	const now = 1_700_000_000
	at := func(text string) string { return "audit(1699999000.123:45): " + text }
	for _, tt := range []struct {
		name, line string
		want       []doctor.Denial
	}{
		{"AppArmor, exec", "5,9,1,-;audit: type=1400 " + at(`apparmor="DENIED" operation="exec" class="file" profile="/usr/lib/ipsec/charon" name="/usr/libexec/xfrmfw/updown" pid=7 comm="charon" requested_mask="x" denied_mask="x" fsuid=0 ouid=0`),
			[]doctor.Denial{{Module: "AppArmor", Subject: "/usr/lib/ipsec/charon", Operation: "exec", Object: "/usr/libexec/xfrmfw/updown", Command: "charon"}}},
		{"SELinux, exec", "5,9,1,-;audit: type=1400 " + at(`avc:  denied  { execute } for  pid=7 comm="sh" name="xfrmfw" dev="vda1" ino=9 scontext=system_u:system_r:ipsec_t:s0 tcontext=system_u:object_r:bin_t:s0 tclass=file permissive=0`),
			[]doctor.Denial{{Module: "SELinux", Subject: "ipsec_t", Operation: "execute", Object: "xfrmfw", Command: "sh"}}},
		{"SELinux, auditd, the socket", "type=AVC msg=" + at(`avc:  denied  { connectto } for  pid=7 comm="xfrmfw" path="/run/xfrmfw/daemon-4026531840.sock" scontext=system_u:system_r:ipsec_t:s0-s0:c0.c1023 tcontext=system_u:system_r:unconfined_service_t:s0 tclass=unix_stream_socket permissive=0`),
			[]doctor.Denial{{Module: "SELinux", Subject: "ipsec_t", Operation: "connectto", Object: "/run/xfrmfw/daemon-4026531840.sock", Command: "xfrmfw"}}},
		{"SELinux, iptables of the hook", "type=AVC msg=" + at(`avc:  denied  { net_raw } for  pid=7 comm="iptables-legacy" capability=13  scontext=system_u:system_r:ipsec_t:s0 tcontext=system_u:system_r:ipsec_t:s0 tclass=capability permissive=0`),
			[]doctor.Denial{{Module: "SELinux", Subject: "ipsec_t", Operation: "net_raw", Command: "iptables-legacy"}}},
		{"permissive", at(`avc:  denied  { execute } for  pid=7 comm="sh" name="xfrmfw" scontext=system_u:system_r:xfrmfw_t:s0 tcontext=system_u:object_r:bin_t:s0 tclass=file permissive=1`), nil},
		{"somebody else's iptables", at(`avc:  denied  { net_raw } for  pid=7 comm="iptables" scontext=system_u:system_r:httpd_t:s0 tcontext=system_u:system_r:httpd_t:s0 tclass=capability permissive=0`), nil},
		{"somebody else's file", at(`apparmor="DENIED" operation="open" profile="/usr/sbin/named" name="/etc/shadow" pid=7 comm="named"`), nil},
		{"allowed", at(`apparmor="ALLOWED" operation="exec" profile="/usr/lib/ipsec/charon" name="/usr/libexec/xfrmfw/updown" pid=7 comm="charon"`), nil},
		{"two days ago", `audit(1699800000.1:2): apparmor="DENIED" operation="exec" profile="/usr/lib/ipsec/charon" name="/usr/libexec/xfrmfw/updown" comm="charon"`, nil},
		{"nonsense", "xfrmfw avc:  denied  {", nil},
		{"cut short", at(`avc:  denied  { execute } for name="xfrmfw" scontext=system_u`), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, file := range []string{"dev/kmsg", "var/log/audit/audit.log"} {
				// Each record counts once.
				h := root(t, map[string]string{file: tt.line + "\n" + tt.line + "\nother\n"})
				if diff := cmp.Diff(tt.want, h.Denials(time.Unix(now, 0))); diff != "" {
					t.Errorf("%s (-want +got):\n%s", file, diff)
				}
			}
		})
	}
	if got := root(t, nil).Denials(time.Unix(now, 0)); got != nil {
		t.Errorf("without logs: %v", got)
	}
}
