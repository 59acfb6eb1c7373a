package coexist

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// busConfig is a system bus for firewalld and its client alone. The one of the distribution needs a user, and starts
// polkit, which then wants to be asked.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/>
  </policy>
</busconfig>
`

// startFirewalld starts firewalld on sun, with a bus of its own, and waits until it has its rules.
func (s *site) startFirewalld(t *testing.T) *lab.Process {
	t.Helper()
	config := t.TempDir() + "/bus.conf"
	write(t, config, busConfig)
	s.sh(t, "mkdir -p /run/dbus; rm -f /run/dbus/*")
	s.Sun.Start(t, nil, "dbus-daemon", "--config-file="+config, "--nofork")
	daemon := s.Sun.Start(t, nil, "firewalld", "--nofork", "--nopid")
	s.ready(t, daemon)
	return daemon
}

// ready waits until firewalld's table has its last chain, whose rules come in one transaction.
func (s *site) ready(t *testing.T, daemon *lab.Process) {
	t.Helper()
	lab.Eventually(t, 4*lab.Patience, func() error {
		if !daemon.Running() {
			t.Fatalf("firewalld ended: %s", daemon.Output())
		}
		if rules := s.try(t, "nft list chain inet firewalld filter_FORWARD").Stdout; !strings.Contains(rules, "reject") {
			return fmt.Errorf("firewalld has not written its rules: %s%s", rules, daemon.Output())
		}
		return nil
	})
}

// TestFirewalld: firewalld empties iptables' tables when it starts, and drops in a table of nftables what xfrmfw accepts.
// doctor names the lines for both.
func TestFirewalld(t *testing.T) {
	need(t, "/usr/sbin/firewalld")
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	s.flows(t, "before firewalld")
	daemon := s.startFirewalld(t)
	if rules := s.Sun.Save(t, lab.IPv4); strings.Contains(rules, "XFRMFW") {
		t.Errorf("firewalld left rules of ours, so that the README is wrong:\n%s", rules)
	}
	s.cut(t, "firewalld started")
	found := s.finds(t, "firewalld started", "rules", "nft-drop")
	s.follow(t, found)
	s.flows(t, "with doctor's lines")
	s.finds(t, "with doctor's lines")

	// A reload keeps the lines, and takes our rules away or not: xfrmfw apply is what it needs in either case.
	daemon.Signal(t, syscall.SIGHUP)
	lab.Eventually(t, 4*lab.Patience, func() error {
		if !strings.Contains(s.try(t, "nft list table inet firewalld").Stdout, "10.1.0.0/24") {
			return fmt.Errorf("the reloaded firewalld has no rule of the tunnel")
		}
		return nil
	})
	s.Sun.MustXfrmfw(t, "apply")
	s.flows(t, "reloaded")
	s.refuses(t, 3)
}
