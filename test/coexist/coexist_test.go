package coexist

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/test/manual"
)

// The sections of xfrmfw-coexist(7) with the lines that are used here.
const (
	onTable     = "## nftables"
	onFirewalld = "## firewalld"
	onMark      = "## The mark VERIFIED in another firewall"
)

// need fails the test if a program is not in the guest: scripts/fetch coexist puts it there.
func need(t *testing.T, path string) {
	t.Helper()
	lab.Require(t)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("lab: %v; run: scripts/fetch coexist", err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace changes a configuration file, in which the old text has to be.
func replace(t *testing.T, name, old, fresh string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s has no %q", name, old)
	}
	write(t, name, strings.Replace(string(b), old, fresh, 1))
}

// TestUFW: ufw inserts no rule ahead of ours and flushes nothing of ours. With verified: return, its own rules on the mark
// decide.
func TestUFW(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	need(t, "/usr/sbin/ufw")
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	// The steps of its package when it is installed.
	s.sh(t, "cp -n /usr/share/ufw/iptables/*.rules /usr/share/ufw/*.init /usr/share/ufw/ufw.conf /etc/ufw/")
	s.sh(t, "ufw --force enable")
	if policy := s.sh(t, "iptables -S FORWARD"); !strings.Contains(policy, "-P FORWARD DROP") {
		t.Fatalf("ufw has not closed FORWARD: %s", policy)
	}
	s.flows(t, "ufw enabled")
	s.finds(t, "ufw enabled")

	// Somebody else's verdict: ufw drops, until its own line lets the mark pass.
	s.configure(t, "verified: return\n")
	s.Sun.MustXfrmfw(t, "apply")
	s.cut(t, "verified: return, without a line for ufw")
	s.finds(t, "verified: return", "mark-only")
	replace(t, "/etc/ufw/before.rules", "\nCOMMIT\n", "\n"+manual.Find(t, onMark, "ufw-before-forward")+"COMMIT\n")
	s.sh(t, "ufw reload")
	s.flows(t, "ufw reloaded")
	s.finds(t, "ufw reloaded")
	s.refuses(t, 3)
}

// dockerRules are those that a daemon of Docker 26 with one network leaves, where the
// network is the tunnel's own: the MASQUERADE is inserted, ahead of the rules that are
// there.
const dockerRules = `*filter
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
:FORWARD DROP [0:0]
-I FORWARD -o lan0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-I FORWARD -o lan0 -j DOCKER
-I FORWARD -i lan0 ! -o lan0 -j ACCEPT
-I FORWARD -i lan0 -o lan0 -j ACCEPT
-I FORWARD -j DOCKER-ISOLATION-STAGE-1
-I FORWARD -j DOCKER-USER
-A DOCKER-ISOLATION-STAGE-1 -i lan0 ! -o lan0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
*nat
:DOCKER - [0:0]
-I PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-I OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-I POSTROUTING -s 10.2.0.0/24 ! -o lan0 -j MASQUERADE
-A DOCKER -i lan0 -j RETURN
COMMIT
`

// TestDocker: docker closes FORWARD, which does not matter, and puts its MASQUERADE ahead of our exemption in iptables, which
// does where the exemption of our table of nftables is missing.
func TestDocker(t *testing.T) {
	lab.Require(t)
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	s.Sun.RunInput(t, dockerRules, "iptables-restore", "--noflush")
	s.flows(t, "docker's rules came later")
	s.finds(t, "docker's rules came later", "ahead")
	s.sh(t, "nft delete table inet xfrmfw")
	wire := s.Wire(t)
	s.cut(t, "docker's rules, without our table")
	t.Logf("on the wire: %v", wire.Frames(t))
	s.follow(t, s.finds(t, "docker's rules, without our table", "ahead", "rules")[:1])
	s.flows(t, "with doctor's line")
	s.finds(t, "with doctor's line")
	s.refuses(t, 3)
}

// TestPersistent: iptables-persistent restores whole tables when the host boots, as they were when they were saved: without
// our rules, or with those of a former life.
func TestPersistent(t *testing.T) {
	need(t, "/usr/sbin/netfilter-persistent")
	s := newSite(t)
	s.sh(t, "mkdir -p /etc/iptables", "iptables -A FORWARD -i wan0 -j DROP", "netfilter-persistent save")
	s.Sun.MustXfrmfw(t, "apply")
	s.flows(t, "applied")
	boot := func() { s.sh(t, "nft flush ruleset", "netfilter-persistent start") } // before it there are no rules
	boot()
	if rules := s.Sun.Save(t, lab.IPv4); strings.Contains(rules, "XFRMFW") {
		t.Fatalf("the restore left rules of ours:\n%s", rules)
	}
	s.cut(t, "a set without our rules was restored")
	s.follow(t, s.finds(t, "a set without our rules was restored", "rules"))
	s.flows(t, "with doctor's line")

	// Saved with our rules, which then know a tunnel of another reqid when the host boots.
	s.sh(t, "netfilter-persistent save")
	s.Down(t, s.tunnel)
	s.tunnel.Reqid = 12
	s.Up(t, s.tunnel)
	s.Sun.MustXfrmfw(t, "apply")
	s.flows(t, "a tunnel with another reqid")
	boot()
	s.cut(t, "a set with rules of a former tunnel was restored")
	s.follow(t, s.finds(t, "a set with rules of a former tunnel was restored", "rules"))
	s.flows(t, "with doctor's line, again")
	s.finds(t, "with doctor's line, again")

	// The set of a former life guards the host until apply runs: nothing passes in clear meanwhile.
	s.sh(t, "netfilter-persistent save")
	boot()
	s.refuses(t, 3)
}

// TestShorewall: shorewall loads whole tables when it starts, so its own hook puts ours back; its rule on the mark decides.
func TestShorewall(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	need(t, "/usr/sbin/shorewall")
	s := newSite(t)
	s.configure(t, "verified: return\n")
	s.Sun.MustXfrmfw(t, "apply")
	for name, text := range map[string]string{
		"zones":      "fw firewall\nnet ipv4\nloc ipv4\n",
		"interfaces": "?FORMAT 2\nnet wan0\nloc lan0\n",
		"policy":     "loc net ACCEPT\n$FW all ACCEPT\nall all DROP\n",
		"rules":      "?SECTION NEW\n",
	} {
		write(t, "/etc/shorewall/"+name, text)
	}
	s.sh(t, "shorewall start")
	s.cut(t, "shorewall started, without its lines")
	found := s.finds(t, "shorewall started, without its lines", "rules", "mark-only")
	if !strings.Contains(found[0].Breaks, "shorewall") {
		t.Errorf("doctor does not name shorewall: %s", found[0].Breaks)
	}
	rules, started, both := strings.Cut(manual.Find(t, onMark, "?SECTION NEW"), "# /etc/shorewall/started\n")
	if !both {
		t.Fatal("xfrmfw-coexist(7) has no line for /etc/shorewall/started")
	}
	write(t, "/etc/shorewall/rules", rules)
	write(t, "/etc/shorewall/started", started)
	s.sh(t, "shorewall reload")
	s.flows(t, "shorewall reloaded, with its lines")
	s.finds(t, "shorewall reloaded, with its lines")
	s.refuses(t, 3)
}

// TestClosedTable: a table of nftables drops by default, and doctor's lines let pass the
// packets that xfrmfw accepts and no others.
func TestClosedTable(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.Require(t)
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	s.sh(t, `nft -f - <<EOF
table inet closed {
	chain input { type filter hook input priority filter + 10; policy drop; ip6 nexthdr icmpv6 accept; }
	chain forward { type filter hook forward priority filter + 10; policy drop; }
	chain output { type filter hook output priority filter + 10; policy drop; ip6 nexthdr icmpv6 accept; }
	chain post { type nat hook postrouting priority srcnat + 10; oifname "wan0" masquerade; }
}
EOF`)
	s.cut(t, "a closed table")
	s.follow(t, s.finds(t, "a closed table", "nft-drop"))
	s.flows(t, "with doctor's lines")
	s.finds(t, "with doctor's lines")
	s.sh(t, `nft "add flowtable inet closed ft { hook ingress priority 0; devices = { wan0 }; }"`)
	s.finds(t, "with a flowtable", "flowtable")
	s.sh(t, "nft delete flowtable inet closed ft")
	s.refuses(t, 3)
}

// TestBothVariants: rules of iptables-legacy close the host beside ours in iptables-nft.
func TestBothVariants(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.Require(t)
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	s.sh(t, "iptables-legacy -P FORWARD DROP", "iptables-legacy -A INPUT -j DROP")
	s.cut(t, "legacy drops")
	s.follow(t, s.finds(t, "legacy drops", "two-variants"))
	s.flows(t, "with doctor's lines")
	s.finds(t, "with doctor's lines")
	s.refuses(t, 0)
}

// TestPlainIptables: verified: return, and rules of one's own on the mark that let pass
// the services that they name.
func TestPlainIptables(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.Require(t)
	s := newSite(t)
	s.configure(t, "verified: return\n")
	s.sh(t, "iptables -P FORWARD DROP", "iptables -P INPUT DROP")
	s.Sun.MustXfrmfw(t, "apply")
	s.cut(t, "verified: return, without a rule on the mark")
	s.finds(t, "verified: return, without a rule on the mark", "mark-only")
	s.sh(t, manual.Find(t, onMark, "iptables -A FORWARD -m mark"))
	s.cut(t, "the mark, and port 22 alone")
	s.sh(t, "iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT")
	ssh := s.Bob.ServeTCP(t, netip.AddrPortFrom(s.Bob.Inner(lab.IPv4), 22))
	if err := (way{s.Alice, ssh}).try(t, "ssh", lab.Patience); err != nil {
		t.Errorf("the mark, and port 22: %v\n%s", err, s.rules(t))
	}
	s.Alice.MustPing(t, s.Sun.Inner(lab.IPv4), 2)
	s.finds(t, "with a rule on the mark")
	s.refuses(t, 3)
}

// TestOwnTable: a table of nftables with the lines of xfrmfw-coexist(7) lets the tunnel's traffic pass and drops other packets,
// and its masquerade spares the tunnel.
func TestOwnTable(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.Require(t)
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	chains := manual.Find(t, onTable, "chain forward {")
	spare := regexp.MustCompile("`(rt ipsec exists accept)` before it").FindStringSubmatch(manual.Text(t))
	if spare == nil {
		t.Fatal("xfrmfw-coexist(7) has no line for a masquerade")
	}
	write(t, "/tmp/own.nft", "table inet own {\n"+chains+"chain post {\n\ttype nat hook postrouting priority srcnat;\n\t"+
		spare[1]+"\n\toifname \"wan0\" masquerade\n}\n}\n")
	s.sh(t, "nft -f /tmp/own.nft")
	for _, w := range s.ways()[:2] {
		if err := w.try(t, "own table", lab.Patience); err != nil {
			t.Errorf("%s to %s: %v\n%s", w.from.Name, w.to, err, s.rules(t))
		}
		s.done.flows++
	}
	s.finds(t, "a table with the lines of the manual")
	s.Mallory.MustNotPing(t, s.Bob.Inner(lab.IPv4), 2)
	s.refuses(t, 0)
}
