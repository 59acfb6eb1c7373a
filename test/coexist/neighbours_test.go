package coexist

import (
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// tailscaleRules are those that tailscaled 1.103 writes with iptables (util/linuxfw: AddChains, AddHooks, AddBase,
// AddSNATRule, AddConnmarkSaveRule), for a node that serves a subnet. Its hooks are inserted, ahead of the rules that are
// there.
const tailscaleRules = `*filter
:ts-forward - [0:0]
:ts-input - [0:0]
-I INPUT 1 -j ts-input
-I FORWARD 1 -j ts-forward
-A ts-input -i lo -s 100.64.0.7 -j ACCEPT
-A ts-input ! -i tailscale0 -s 100.115.92.0/23 -j RETURN
-A ts-input ! -i tailscale0 -s 100.64.0.0/10 -j DROP
-A ts-input -i tailscale0 -j ACCEPT
-A ts-input -p udp --dport 41641 -j ACCEPT
-A ts-forward -i tailscale0 -j MARK --set-mark 0x40000/0xff0000
-A ts-forward -m mark --mark 0x40000/0xff0000 -j ACCEPT
-A ts-forward -o tailscale0 -s 100.64.0.0/10 -j DROP
-A ts-forward -o tailscale0 -j ACCEPT
COMMIT
*nat
:ts-postrouting - [0:0]
-I POSTROUTING 1 -j ts-postrouting
-A ts-postrouting -m mark --mark 0x40000/0xff0000 -j MASQUERADE
COMMIT
*mangle
-I PREROUTING 1 -m conntrack --ctstate ESTABLISHED,RELATED -m connmark ! --mark 0x0/0xff0000 -j CONNMARK --restore-mark --nfmask 0xff0000 --ctmask 0xff0000
-I OUTPUT 1 -m conntrack --ctstate NEW -m mark ! --mark 0x0/0xff0000 -j CONNMARK --save-mark --nfmask 0xff0000 --ctmask 0xff0000
COMMIT
`

// kubeRules are those that kube-proxy in its iptables mode writes (pkg/proxy/iptables/proxier.go) for one service,
// 10.96.0.10:80, whose endpoint is alice's server behind the tunnel. sun's network is that of its pods. Its jumps are
// inserted, ahead of the rules that are there.
const kubeRules = `*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-I INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-I INPUT -j KUBE-NODEPORTS
-I INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-I FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-I FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-I FORWARD -j KUBE-FORWARD
-I FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-I OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-I OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-ALICE - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ALICE - [0:0]
-I PREROUTING -j KUBE-SERVICES
-I OUTPUT -j KUBE-SERVICES
-I POSTROUTING -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp --dport 80 -j KUBE-SVC-ALICE
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-ALICE ! -s 10.2.0.0/24 -d 10.96.0.10/32 -p tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-ALICE -j KUBE-SEP-ALICE
-A KUBE-SEP-ALICE -s 10.1.0.10/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-ALICE -p tcp -j DNAT --to-destination 10.1.0.10:7100
COMMIT
`

// TestTailscale: tailscaled's chains come first, and take neither a packet of the tunnel nor a bit of ours.
func TestTailscale(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.Require(t)
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	s.Sun.RunInput(t, tailscaleRules, "iptables-restore", "--noflush")
	s.flows(t, "tailscaled's rules came later")
	s.finds(t, "tailscaled's rules came later", "ahead")
	s.Sun.MustXfrmfw(t, "apply")
	s.flows(t, "tailscaled's rules, and an apply")
	s.refuses(t, 3)
}

// TestKubeProxy: kube-proxy's chains come first. A service of it whose endpoint is behind the tunnel is reached through the
// tunnel, by its DNAT.
func TestKubeProxy(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.Require(t)
	s := newSite(t)
	s.Sun.MustXfrmfw(t, "apply")
	s.Sun.RunInput(t, kubeRules, "iptables-restore", "--noflush")
	service := []way{{s.Bob, netip.MustParseAddrPort("10.96.0.10:80")}}
	s.flows(t, "kube-proxy's rules came later", append(s.ways(), service...)...)
	s.finds(t, "kube-proxy's rules came later", "ahead")
	s.Sun.MustXfrmfw(t, "apply")
	s.flows(t, "kube-proxy's rules, and an apply", append(s.ways(), service...)...)
	s.finds(t, "kube-proxy's rules, and an apply")
	s.refuses(t, 3)
	s.cut(t, "the tunnel is down", service...)
}
