package ike

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// roadWarriors is how many there are. One charon has a connection for each of them: as many daemons would take the
// emulated machine minutes to start.
const roadWarriors = 20

// identity is that of the road warrior of that number: an EAP user every other one, else
// an IKE identity.
func identity(i int) string {
	if i%2 == 0 {
		return fmt.Sprintf("user%d@eap.lab", i)
	}
	return fmt.Sprintf("user%d@psk.lab", i)
}

// secret is a road warrior's, for both sides.
func secret(i int) string {
	if i%2 == 0 {
		return fmt.Sprintf("\teap-%d {\n\t\tid = %s\n\t\tsecret = \"only for the lab %d\"\n\t}\n", i, identity(i), i)
	}
	return fmt.Sprintf("\tike-%d {\n\t\tid-1 = %s\n\t\tid-2 = sun\n\t\tsecret = \"only for the lab %d\"\n\t}\n", i, identity(i), i)
}

// responderConf is sun's, with a pool of virtual addresses.
func responderConf(n *lab.Network, updown string) string {
	conf := func(name, remote string) string {
		return fmt.Sprintf(`%s {
		version = 2
		proposals = aes128-sha256-ecp256
		local_addrs = %s
		pools = pool
		mobike = no
		local {
			auth = psk
			id = sun
		}
		remote {
			%s
		}
		children {
			%s {
				esp_proposals = aes128gcm16-ecp256
				local_ts = %s
				updown = %s
			}
		}
	}
	`, name, n.Sun.Outer(lab.IPv4), remote, name, n.Sun.InnerNet(lab.IPv4), updown)
	}
	var secrets strings.Builder
	for i := range roadWarriors {
		fmt.Fprint(&secrets, secret(i))
	}
	return "connections {\n\t" + conf("psk", "auth = psk\n\t\t\tid = *@psk.lab") +
		conf("eap", "auth = eap-md5\n\t\t\teap_id = %any\n\t\t\tid = %any") + "\n}\n" +
		"pools {\n\tpool {\n\t\taddrs = 10.3.0.0/24\n\t}\n}\n" +
		"secrets {\n\tike-sun {\n\t\tid = sun\n\t\tsecret = \"sun's for the lab\"\n\t}\n" + secrets.String() + "}\n"
}

// initiatorConf is alice's, with a connection for each road warrior. An EAP user's IKE
// identity is the client's own choice: here it is that of another user with more rights.
func initiatorConf(n *lab.Network) string {
	var connections, secrets strings.Builder
	for i := range roadWarriors {
		local := "auth = psk\n\t\t\tid = " + identity(i)
		if i%2 == 0 {
			local = "auth = eap\n\t\t\tid = user1@psk.lab.example\n\t\t\teap_id = " + identity(i)
		}
		fmt.Fprintf(&connections, `	c%[1]d {
		version = 2
		proposals = aes128-sha256-ecp256
		remote_addrs = %[2]s
		vips = 0.0.0.0
		mobike = no
		unique = never
		local {
			%[3]s
		}
		remote {
			auth = psk
			id = sun
		}
		children {
			n%[1]d {
				esp_proposals = aes128gcm16-ecp256
				remote_ts = %[4]s
			}
		}
	}
`, i, n.Sun.Outer(lab.IPv4), local, n.Sun.InnerNet(lab.IPv4))
		fmt.Fprint(&secrets, secret(i))
	}
	return "connections {\n" + connections.String() + "}\nsecrets {\n\tike-sun {\n\t\tid = sun\n\t\tsecret = \"sun's for the lab\"\n\t}\n" + secrets.String() + "}\n"
}

// configure writes a host's configuration.
func configure(t *testing.T, h *lab.Host, yaml string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.EtcDir(), "xfrmfw.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
}

// behindNAT makes moon a NAT gateway that knows nothing of IPsec, with alice behind it.
func behindNAT(t *testing.T, n *lab.Network) {
	t.Helper()
	n.Moon.IP(t, "route del "+n.Sun.InnerNet(lab.IPv4).String())
	n.Moon.Iptables(t, lab.IPv4, "-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
	// Packets to the pool that are not encrypted would go out there.
	n.Sun.IP(t, "route add 10.3.0.0/24 via "+n.Moon.Outer(lab.IPv4).String())
}

// addresses asks the client which virtual address each road warrior has.
func addresses(t *testing.T, client *lab.Charon) map[int]netip.Addr {
	t.Helper()
	found := make(map[int]netip.Addr)
	text := client.Swanctl(t, "--list-sas")
	for _, words := range regexp.MustCompile(`(?s)\bc(\d+): #\d+, ESTABLISHED.*?\n  local .*?\[(10\.3\.0\.\d+)\]`).FindAllStringSubmatch(text, -1) {
		var i int
		if _, err := fmt.Sscan(words[1], &i); err != nil {
			t.Fatal(err)
		}
		found[i] = netip.MustParseAddr(words[2])
	}
	return found
}

// TestRoadWarriors has 20 of them behind one NAT gateway come and go. It compares the
// identity of each in status, and the services that each may use by its identity.
func TestRoadWarriors(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	n := lab.NewNetwork(t)
	f := lab.IPv4
	behindNAT(t, n)
	configure(t, n.Sun, `
guard: {pairs: [{local: 10.2.0.0/24, remote: 10.3.0.0/24}]}
tunnels:
  - match: {remote: 10.3.0.0/24, identity: user1@psk.lab}
  - match: {remote: 10.3.0.0/24, connection: eap}
    in: [icmp]
`)
	closed(t, n.Sun)
	bob := n.Bob.ServeTCP(t, netip.AddrPortFrom(n.Bob.Inner(f), 80))
	// One emulated processor makes the keys of all, which come from one address: that is no attack.
	sun := n.Sun.StartCharon(t, responderConf(n, updown(t)), "cookie_threshold = 0", "block_threshold = 0")
	client := n.Alice.StartCharon(t, initiatorConf(n), "install_routes = no", "retransmit_timeout = 10", "retransmit_tries = 6", "retransmit_base = 1.3")
	wire := n.Wire(t)

	calls := func(format string, some ...int) (list []string) {
		for _, i := range some {
			list = append(list, fmt.Sprintf(format, i))
		}
		return list
	}
	all := make([]int, roadWarriors)
	for i := range all {
		all[i] = i
	}
	begin := time.Now()
	for some := range slices.Chunk(all, 5) {
		client.SwanctlEach(t, calls("--initiate --timeout 240 --child n%d", some...)...)
	}
	t.Logf("%d road warriors were up in %v", roadWarriors, time.Since(begin))

	// known compares status with the client's own words.
	known := func(want int) map[int]netip.Addr {
		t.Helper()
		has := addresses(t, client)
		if len(has) != want {
			t.Fatalf("the client has %d virtual addresses, want %d\n%s", len(has), want, client.Swanctl(t, "--list-sas"))
		}
		lab.Eventually(t, 6*lab.Patience, func() error {
			by := make(map[string]tunnel)
			r := status(t, n.Sun)
			for _, u := range r.up() {
				if len(u.VirtualIPs) == 1 {
					by[u.VirtualIPs[0]] = u
				}
			}
			if len(by) != want || len(r.Warnings) > 0 {
				return fmt.Errorf("status knows %d peers, want %d: %+v %q", len(by), want, r.Tunnels, r.Warnings)
			}
			for i, a := range has {
				u := by[a.String()]
				id, user, connection := identity(i), "", "psk"
				if i%2 == 0 {
					id, user, connection = "user1@psk.lab.example", identity(i), "eap"
				}
				if u.PeerID != id || u.User != user || u.Connection != connection || u.Selectors[0].Remote != a.String()+"/32" || u.Evidence != "tag+policy" {
					return fmt.Errorf("road warrior %d has %v: status says %+v", i, a, u)
				}
			}
			return nil
		})
		lab.InSync(t, n.Sun)
		return has
	}
	// reach sends from each: all are let in, and users of EAP may only ping.
	reach := func(has map[int]netip.Addr, some ...int) {
		t.Helper()
		for _, i := range some {
			n.Alice.MustPing(t, n.Bob.Inner(f), 1, "-I", has[i].String())
			patience := time.Second
			if i%2 == 1 {
				patience = lab.Patience
			}
			conn, err := n.Alice.DialTCP(t, netip.AddrPortFrom(has[i], 0), bob, patience)
			if err == nil {
				conn.Close()
			}
			if got, want := err == nil, i%2 == 1; got != want {
				t.Errorf("%s reaches bob's port 80: %v (%v), want %v", identity(i), got, err, want)
			}
		}
	}
	has := known(roadWarriors)
	reach(has, all...)

	begin = time.Now()
	client.SwanctlEach(t, calls("--terminate --ike c%d", 3, 6, 8, 11, 12)...)
	known(roadWarriors - 5)
	for _, i := range []int{3, 6} {
		n.Bob.MustNotPing(t, has[i], 1)
	}
	client.SwanctlEach(t, calls("--initiate --timeout 240 --child n%d", 12, 3, 8)...)
	has = known(roadWarriors - 2)
	reach(has, 3, 8, 12, 13)
	t.Logf("five went and three came again in %v", time.Since(begin))

	// The responder crashes, and nobody is told. With it goes the socket by which the kernel takes ESP in UDP.
	sun.Kill(t)
	sun.Restart(t)
	// The clients start anew, too, and two come again: the pool begins with addresses that stale states and policies of
	// others have.
	client.Kill(t)
	n.Alice.FlushXFRM(t)
	n.Alice.IP(t, "addr flush dev eth0 to 10.3.0.0/24")
	client.Restart(t)
	client.SwanctlEach(t, calls("--initiate --timeout 240 --child n%d", 13, 8)...)
	now := addresses(t, client)
	for _, i := range []int{8, 13} {
		eventuallyPings(t, n.Alice, n.Bob.Inner(f), "-I", now[i].String())
	}
	reach(now, 8, 13)
	n.Sun.Run(t, "ip", "xfrm", "state", "flush")
	n.Sun.Run(t, "ip", "xfrm", "policy", "flush")
	n.Bob.MustNotPing(t, now[8], 1)
	n.Sun.MustXfrmfw(t, "apply")
	n.Bob.MustNotPing(t, now[8], 1)
	noCleartext(t, wire, lab.Between(netip.MustParsePrefix("10.3.0.0/24"), n.Sun.InnerNet(f)))
	if got := wire.Count(t, lab.IsNATT); got == 0 {
		t.Error("no ESP in UDP: the NAT gateway was not in between")
	}
	records, err := filepath.Glob(filepath.Join(n.Sun.RunDir(), "peers-*", "*.json"))
	if err != nil || len(records) > 2*roadWarriors {
		t.Errorf("%d records (%v)", len(records), err)
	}
}
