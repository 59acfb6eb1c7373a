package coexist

import (
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestDoctorTunnels: doctor's findings about tunnels appear with their cause and go with
// it, on a kernel with real states.
func TestDoctorTunnels(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.Require(t)
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	s.flows(t, "up")
	s.finds(t, "up")
	sees := func(name, check, seen string) {
		t.Helper()
		s.Sun.MustXfrmfw(t, "apply")
		for _, f := range s.finds(t, name, check) {
			if !strings.Contains(f.Seen, seen) {
				t.Errorf("%s: saw %q, want %q in it", name, f.Seen, seen)
			}
		}
	}
	mended := func(name string) {
		t.Helper()
		s.Sun.MustXfrmfw(t, "apply")
		s.finds(t, name+", mended")
	}

	policies, sas := s.Policies(s.Sun, s.tunnel), s.SAs(s.Sun, s.tunnel)
	s.Sun.DeletePolicies(t, policies...)
	sees("states without policies", "states-alone", "2 SAs without policies: state ")
	s.Sun.AddPolicies(t, policies...)
	mended("states without policies")

	s.Sun.DeleteSAs(t, sas[0])
	sees("no inbound state", "policies-alone", "one direction only")
	s.Sun.AddSAs(t, sas[0])
	mended("no inbound state")
	s.flows(t, "mended")

	// ESP that sun has no state for, while doctor watches the kernel's counters.
	stop := make(chan struct{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := uint32(1); ; i++ {
			select {
			case <-stop:
				return
			default:
				s.Mallory.SendRaw(t, lab.ESPPacket(s.Moon.Outer(lab.IPv4), s.Sun.Outer(lab.IPv4), 0xbad, i).Times(10)...)
			}
		}
	}()
	found := s.doctor(t, "--interval", "3s")
	close(stop)
	<-sent
	if len(found) != 1 || found[0].Check != "counters" || !strings.HasPrefix(found[0].Seen, "XfrmInNoStates grew by ") {
		t.Errorf("with ESP of an unknown SPI: %+v", found)
	}
	if found := s.doctor(t, "--interval", "1s"); len(found) != 0 {
		t.Errorf("without it: %+v", found)
	}
}

// TestDoctorInterface: policies with an if_id, without their interface and with it.
func TestDoctorInterface(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.Require(t)
	s := siteWith(t, lab.IPsec{Carrier: lab.XFRMInterface})
	s.Sun.MustXfrmfw(t, "apply")
	s.finds(t, "with its interface")
	s.Sun.IP(t, "link del ipsec0")
	s.Sun.MustXfrmfw(t, "apply")
	s.follow(t, s.finds(t, "without its interface", "interface"))
	s.Sun.IP(t, "route replace 10.1.0.0/24 dev ipsec7")
	s.Sun.MustXfrmfw(t, "apply")
	s.finds(t, "with the interface that doctor named")
	s.flows(t, "with the interface that doctor named")
}

// TestDoctorOffload: with ESP offload nothing can be tagged, unless the state itself sets the tag, as doctor says.
func TestDoctorOffload(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.LoadESPOffload(t)
	s := newSite(t)
	s.EnableGRO(t)
	s.Sun.MustXfrmfw(t, "apply")
	found := s.finds(t, "offload", "offload")
	if len(found) == 1 && (!strings.Contains(found[0].Seen, "esp4_offload is loaded") ||
		!strings.HasPrefix(found[0].Mend[0], "set_mark_in = 0x10000000/0x10000000 ")) {
		t.Errorf("found %+v", found)
	}
	// Where the tag is wanted of all, apply refuses, and doctor names the option that is
	// not in force.
	s.configure(t, "cross_check: enforce\n")
	if r := s.Sun.Xfrmfw(t, "apply"); r.Code == 0 {
		t.Error("apply took cross_check: enforce, which can't be")
	}
	s.finds(t, "offload, with cross_check: enforce", "offload", "compiler", "look")
	s.Down(t, s.tunnel)
	s.tunnel.InboundMark = lab.Mark{Value: 0x10000000, Mask: 0x10000000}
	s.Up(t, s.tunnel)
	s.Sun.MustXfrmfw(t, "apply")
	s.finds(t, "offload, with the line that doctor named")
	s.flows(t, "offload, with the line that doctor named")
}

// TestDoctorReversePath: a strict filter on a VTI into which a mark leads, and no route: the filter asks without the mark.
func TestDoctorReversePath(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.Require(t)
	s := siteWith(t, lab.IPsec{Carrier: lab.VTI})
	s.Sun.MustXfrmfw(t, "apply")
	s.flows(t, "VTI")
	s.finds(t, "VTI")
	s.Sun.Sysctl(t, "net/ipv4/conf/vti0/rp_filter=1")
	s.finds(t, "a strict filter, and routes that lead there")
	s.sh(t, "ip route del 10.1.0.0/24", "ip route add default via 192.0.2.1",
		"ip route add 10.1.0.0/24 dev vti0 table 100", "ip rule add fwmark 0x1/0x1 lookup 100",
		"iptables -t mangle -A PREROUTING -i lan0 -d 10.1.0.0/24 -j MARK --set-xmark 0x1/0x1")
	s.Sun.MustXfrmfw(t, "apply")
	forwarded := s.ways()[:2]
	s.cut(t, "a strict filter, and no route", forwarded...)
	s.follow(t, s.finds(t, "a strict filter, and no route", "rp-filter"))
	s.finds(t, "a strict filter, with doctor's line")
	s.flows(t, "a strict filter, with doctor's line", forwarded...)
}

// TestDoctorModules: a kernel that has its module nowhere, and one that has it.
func TestDoctorModules(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.Require(t)
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	doctor := func(hide string) lab.Result {
		return s.try(t, "mount -t tmpfs tmpfs /sys/module", "cp -r /lib/modules/$(uname -r)/modules.* /mnt", "mount -t tmpfs tmpfs /lib/modules",
			"mkdir /lib/modules/$(uname -r)", "cd /lib/modules/$(uname -r)", "cp /mnt/modules.* .", "sed -i '"+hide+"' modules.dep modules.builtin",
			"xfrmfw doctor --interval 0s")
	}
	const seen = "error: the kernel has no xt_policy: neither loaded, built in nor installed [modules]"
	if r := doctor("/xt_policy/d"); r.Code != 3 || !strings.Contains(r.Stdout, seen) {
		t.Errorf("without xt_policy: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := doctor(""); r.Code != 0 || strings.Contains(r.Stdout, "[modules]") {
		t.Errorf("with it: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}
