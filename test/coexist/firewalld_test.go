package coexist

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/test/manual"
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
func (s *site) startFirewalld(t *testing.T) {
	t.Helper()
	config := t.TempDir() + "/bus.conf"
	write(t, config, busConfig)
	s.sh(t, "mkdir -p /run/dbus; rm -f /run/dbus/*")
	s.Sun.Start(t, nil, "dbus-daemon", "--config-file="+config, "--nofork")
	s.ready(t, s.Sun.Start(t, nil, "firewalld", "--nofork", "--nopid"))
}

// ready waits until firewalld's table has its last chain. The rules of that chain come in
// one transaction.
func (s *site) ready(t *testing.T, daemon *lab.Process) {
	t.Helper()
	lab.Eventually(t, 5*lab.Patience, func() error {
		if !daemon.Running() {
			t.Fatalf("firewalld ended: %s", daemon.Output())
		}
		if rules := s.try(t, "nft list chain inet firewalld filter_FORWARD").Stdout; !strings.Contains(rules, "reject") {
			return fmt.Errorf("firewalld has not written its rules: %s%s", rules, daemon.Output())
		}
		return nil
	})
}

// patient is firewall-cmd for an emulated machine: where firewalld takes longer than a message bus waits for an answer (25
// s), it asks until firewalld is done.
const patient = `#!/bin/sh
out=$(/usr/bin/firewall-cmd "$@" 2>&1)
code=$?
case $out in
*'Did not receive a reply'*)
	code=1
	for _ in 1 2 3 4 5 6 7 8; do
		[ "$(/usr/bin/firewall-cmd --state 2>&1)" != running ] || { code=0 && break; }
	done
	;;
esac
printf '%s\n' "$out"
exit $code
`

// flushed fails the test if firewalld has left rules of ours, which the manual denies.
func (s *site) flushed(t *testing.T, when string) {
	t.Helper()
	if rules := s.Sun.Save(t, lab.IPv4); strings.Contains(rules, "XFRMFW") {
		t.Errorf("%s: rules of ours are left:\n%s", when, rules)
	}
}

// TestFirewalld: firewalld empties iptables' tables when it starts, and drops in a table
// of nftables the packets that xfrmfw accepts. doctor names the lines for both, and they
// are those of xfrmfw-coexist(7).
func TestFirewalld(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	need(t, "/usr/sbin/firewalld")
	write(t, "/usr/local/sbin/firewall-cmd", patient)
	s := newSite(t)
	s.sh(t, "chmod 755 /usr/local/sbin/firewall-cmd")
	s.Sun.MustXfrmfw(t, "apply")
	s.flows(t, "before firewalld")
	s.startFirewalld(t)
	s.flushed(t, "firewalld started")
	s.cut(t, "firewalld started")
	s.follow(t, s.finds(t, "firewalld started", "rules", "nft-drop"))
	s.flows(t, "with doctor's lines")
	s.finds(t, "with doctor's lines")
	for line := range strings.Lines(manual.Find(t, onFirewalld, "firewall-cmd --permanent")) {
		if line = strings.TrimSpace(line); !slices.Contains(s.ran, line) {
			t.Errorf("xfrmfw-coexist(7) has a line that doctor does not name: %s", line)
		}
	}

	// A reload keeps the lines, and takes our rules away.
	s.sh(t, "firewall-cmd --reload")
	s.flushed(t, "firewalld reloaded")
	s.follow(t, s.finds(t, "firewalld reloaded", "rules"))
	s.flows(t, "firewalld reloaded, with doctor's line")

	// Its masquerade comes in a table that our exemption in iptables does not bind, but the one in our table does.
	s.sh(t, "firewall-cmd --add-masquerade")
	s.flows(t, "firewalld masquerades")
	s.finds(t, "firewalld masquerades")
	s.sh(t, "nft delete table inet xfrmfw")
	s.cut(t, "firewalld masquerades, without our table")
	s.follow(t, s.finds(t, "firewalld masquerades, without our table", "nft-nat", "rules"))
	if line := strings.TrimSpace(manual.Find(t, onTable, "table ip xfrmfw-nat")); !slices.Contains(s.ran, line) {
		t.Errorf("xfrmfw-coexist(7) has a line that doctor does not name: %s", line)
	}
	s.flows(t, "firewalld masquerades, with doctor's line")
	s.finds(t, "firewalld masquerades, with doctor's line")
	s.refuses(t, 3)
}
