package coexist

import (
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestDoctorTunnels: what doctor says of tunnels appears with its cause and goes with it, on a kernel with real states.
func TestDoctorTunnels(t *testing.T) {
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
	sees("states without policies", "states-alone", "2 states without policies: state ")
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
	lab.LoadESPOffload(t)
	s := newSite(t)
	s.EnableGRO(t)
	s.Sun.MustXfrmfw(t, "apply")
	found := s.finds(t, "offload", "offload")
	if len(found) == 1 && (!strings.Contains(found[0].Seen, "esp4_offload is loaded") ||
		!strings.HasPrefix(found[0].Mend[0], "set_mark_in = 0x10000000/0x10000000 ")) {
		t.Errorf("found %+v", found)
	}
	s.Down(t, s.tunnel)
	s.tunnel.InboundMark = lab.Mark{Value: 0x10000000, Mask: 0x10000000}
	s.Up(t, s.tunnel)
	s.Sun.MustXfrmfw(t, "apply")
	s.finds(t, "offload, with the line that doctor named")
	s.flows(t, "offload, with the line that doctor named")
}
