package fake

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Sample is a rule that shows one field, where it may stand, and its text.
type Sample struct {
	Name   string
	Family xfrm.Family
	Table  rules.Table
	From   string
	Rule   rules.Rule
	Text   string
}

// Samples has a line for each field of rules.Rule, and for each verb.
func Samples() []Sample {
	type (
		rule   = rules.Rule
		target = rules.Target
	)
	const (
		v4, v6 = xfrm.IPv4, xfrm.IPv6
		m, f   = rules.Mangle, rules.Filter
	)
	p := netip.MustParsePrefix
	samples := []Sample{
		{"nothing", v4, m, "INPUT", rule{}, ""},
		{"src", v4, m, "INPUT", rule{Src: p("10.1.0.0/16")}, "-s 10.1.0.0/16"},
		{"src any", v4, m, "INPUT", rule{Src: p("0.0.0.0/0")}, ""},
		{"dst", v6, m, "INPUT", rule{Dst: p("fd00:1::/64")}, "-d fd00:1::/64"},
		{"in", v4, m, "INPUT", rule{In: "eth0.7"}, "-i eth0.7"},
		{"out", v4, m, "FORWARD", rule{Out: "ppp+"}, "-o ppp+"},
		{"tcp", v4, m, "INPUT", rule{Proto: xfrm.TCP}, "-p tcp"},
		{"esp", v6, m, "INPUT", rule{Proto: xfrm.ESP}, "-p esp"},
		{"ah", v4, m, "INPUT", rule{Proto: xfrm.AH}, "-p ah"},
		{"ipip", v4, m, "INPUT", rule{Proto: xfrm.IPIP}, "-p 4"},
		{"icmpv6", v6, m, "INPUT", rule{Proto: xfrm.ICMPv6}, "-p ipv6-icmp"},
		{"icmpv6 in ipv4", v4, m, "INPUT", rule{Proto: xfrm.ICMPv6}, "-p 58"},
		{"sports", v4, m, "INPUT", rule{Proto: xfrm.UDP, SPorts: firewall.Port(500)}, "-p udp -m udp --sport 500"},
		{"dports", v6, m, "INPUT", rule{Proto: xfrm.TCP, DPorts: firewall.Ports{Lo: 1, Hi: 1023}}, "-p tcp -m tcp --dport 1:1023"},
		{"sctp", v4, m, "INPUT", rule{Proto: xfrm.SCTP, DPorts: firewall.Port(9)}, "-p sctp -m sctp --dport 9"},
		{"icmp type", v4, m, "INPUT", rule{Proto: xfrm.ICMP, ICMP: rules.ICMPMatch{Set: true, Type: 8}}, "-p icmp -m icmp --icmp-type 8"},
		{"icmp code", v4, m, "INPUT", rule{Proto: xfrm.ICMP, ICMP: rules.ICMPMatch{Set: true, Type: 3, HasCode: true, Code: 4}}, "-p icmp -m icmp --icmp-type 3/4"},
		{"icmpv6 type", v6, m, "INPUT", rule{Proto: xfrm.ICMPv6, ICMP: rules.ICMPMatch{Set: true, Type: 2}}, "-p ipv6-icmp -m icmp6 --icmpv6-type 2"},
		{"src type", v4, m, "PREROUTING", rule{SrcType: rules.Local}, "-m addrtype --src-type LOCAL"},
		{"dst type", v6, m, "PREROUTING", rule{DstType: rules.Local}, "-m addrtype --dst-type LOCAL"},
		{"mark", v4, m, "INPUT", rule{Mark: rules.MarkMatch{Value: 0x10000000, Mask: 0x30000000}}, "-m mark --mark 0x10000000/0x30000000"},
		{"mark not", v4, m, "INPUT", rule{Mark: rules.MarkMatch{Mask: 1, Not: true}}, "-m mark ! --mark 0x0/0x1"},
		{"policy in", v4, m, "PREROUTING", rule{Policy: rules.PolicyMatch{Dir: rules.PolicyIn}}, "-m policy --dir in --pol ipsec"},
		{"policy none", v6, m, "POSTROUTING", rule{Policy: rules.PolicyMatch{Dir: rules.PolicyOut, None: true}}, "-m policy --dir out --pol none"},
		{"policy proto", v4, m, "FORWARD", rule{Policy: rules.PolicyMatch{Dir: rules.PolicyOut, Proto: xfrm.AH}}, "-m policy --dir out --pol ipsec --proto ah"},
		{"policy reqid", v4, m, "FORWARD", rule{Policy: rules.PolicyMatch{Dir: rules.PolicyIn, HasReqid: true, Reqid: 4294967295, Proto: xfrm.ESP}},
			"-m policy --dir in --pol ipsec --reqid 4294967295 --proto esp"},
		{"policy reqid 0", v4, m, "FORWARD", rule{Policy: rules.PolicyMatch{Dir: rules.PolicyIn, HasReqid: true}}, "-m policy --dir in --pol ipsec --reqid 0"},
		{"policy ends", v4, m, "INPUT", rule{Policy: rules.PolicyMatch{Dir: rules.PolicyIn, TunnelSrc: p("192.0.2.1/32"), TunnelDst: p("192.0.2.0/25")}},
			"-m policy --dir in --pol ipsec --mode tunnel --tunnel-dst 192.0.2.0/25 --tunnel-src 192.0.2.1"},
		{"policy ends 6", v6, m, "INPUT", rule{Policy: rules.PolicyMatch{Dir: rules.PolicyIn, TunnelSrc: p("2001:db8::1/128"), TunnelDst: p("c000:200::/24")}},
			"-m policy --dir in --pol ipsec --mode tunnel --tunnel-dst c000:200::/24 --tunnel-src 2001:db8::1"},
		{"ct state", v4, m, "FORWARD", rule{Ct: rules.CtMatch{State: rules.CtRelated | rules.CtEstablished}}, "-m conntrack --ctstate RELATED,ESTABLISHED"},
		{"ct state not", v6, m, "FORWARD", rule{Ct: rules.CtMatch{State: rules.CtSNAT | rules.CtDNAT, NotState: true}}, "-m conntrack ! --ctstate SNAT,DNAT"},
		{"ct dir", v4, m, "FORWARD", rule{Ct: rules.CtMatch{Dir: rules.CtOriginal}}, "-m conntrack --ctdir ORIGINAL"},
		{"ct dir reply", v4, m, "FORWARD", rule{Ct: rules.CtMatch{State: rules.CtDNAT, Dir: rules.CtReply}}, "-m conntrack --ctstate DNAT --ctdir REPLY"},
		{"ct orig", v4, m, "FORWARD", rule{Ct: rules.CtMatch{OrigSrc: p("10.0.0.0/8"), OrigDst: p("10.1.2.3/32"), NotOrigDst: true}},
			"-m conntrack --ctorigsrc 10.0.0.0/8 ! --ctorigdst 10.1.2.3/32"},
		{"ct repl", v6, m, "FORWARD", rule{Ct: rules.CtMatch{ReplSrc: p("fd00::/8"), ReplDst: p("fd00:1::/64"), NotReplSrc: true}},
			"-m conntrack ! --ctreplsrc fd00::/8 --ctrepldst fd00:1::/64"},
		{"ct proto", v4, m, "FORWARD", rule{Ct: rules.CtMatch{Proto: xfrm.ESP}}, "-m conntrack --ctproto 50"},
		{"ct port", v6, m, "FORWARD", rule{Ct: rules.CtMatch{Proto: xfrm.UDP, OrigSrc: p("fd00::/8"), OrigSPorts: firewall.Port(4500), OrigDPorts: firewall.Ports{Lo: 500, Hi: 503}}},
			"-m conntrack --ctproto 17 --ctorigsrc fd00::/8 --ctorigsrcport 4500 --ctorigdstport 500:503"},
		{"ct not", v4, m, "FORWARD", rule{Ct: rules.CtMatch{OrigSrc: p("10.0.0.0/8"), NotOrigSrc: true, ReplDst: p("10.1.0.0/16"), NotReplDst: true}},
			"-m conntrack ! --ctorigsrc 10.0.0.0/8 ! --ctrepldst 10.1.0.0/16"},
		{"not reverse", v4, m, "PREROUTING", rule{RPFilterInvert: true}, "-m rpfilter --invert"},
		{"not reverse 6", v6, m, "PREROUTING", rule{RPFilterInvert: true}, "-m rpfilter --invert"},
		{"limit", v4, m, "FORWARD", rule{Limit: rules.Limit{PerSecond: 5, Burst: 20}}, "-m limit --limit 5/second --limit-burst 20"},
		{"limit most", v4, m, "FORWARD", rule{Limit: rules.Limit{PerSecond: 10000, Burst: 10000}}, "-m limit --limit 10000/second --limit-burst 10000"},
		{"accept", v4, f, "INPUT", rule{Target: target{Verb: rules.Accept}}, "-j ACCEPT"},
		{"drop", v6, f, "INPUT", rule{Target: target{Verb: rules.Drop}}, "-j DROP"},
		{"return", v4, rules.NAT, "POSTROUTING", rule{Target: target{Verb: rules.Return}}, "-j RETURN"},
		{"jump", v4, f, "INPUT", rule{Target: target{Verb: rules.Jump, Chain: "XFRMFW-TO"}}, "-j XFRMFW-TO"},
		{"goto", v6, f, "INPUT", rule{Target: target{Verb: rules.Goto, Chain: "XFRMFW-TO"}}, "-g XFRMFW-TO"},
		{"set mark", v4, m, "INPUT", rule{Target: target{Verb: rules.SetMark, Value: 0x10000000, Mask: 0x10000000}}, "-j MARK --set-xmark 0x10000000/0x10000000"},
		{"reject", v4, f, "FORWARD", rule{Target: target{Verb: rules.Reject}}, "-j REJECT --reject-with icmp-admin-prohibited"},
		{"reject 6", v6, f, "FORWARD", rule{Target: target{Verb: rules.Reject}}, "-j REJECT --reject-with icmp6-adm-prohibited"},
		{"clamp", v4, m, "FORWARD", rule{Proto: xfrm.TCP, Target: target{Verb: rules.ClampMSS, Size: 1360}}, "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1360"},
		{"clamp 6", v6, m, "POSTROUTING", rule{Proto: xfrm.TCP, DPorts: firewall.Port(80), Target: target{Verb: rules.ClampMSS, Size: 1340}},
			"-p tcp -m tcp --dport 80 -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1340"},
		{"log", v4, m, "INPUT", rule{Target: target{Verb: rules.Log, Prefix: "xfrmfw-spoof:"}}, "-j LOG --log-prefix xfrmfw-spoof:"},
		{"log bare", v6, m, "INPUT", rule{Target: target{Verb: rules.Log}}, "-j LOG"},
		{"nflog", v4, m, "INPUT", rule{Target: target{Verb: rules.NFLog, Group: 5, Prefix: "xfrmfw-leak:"}}, "-j NFLOG --nflog-group 5 --nflog-prefix xfrmfw-leak:"},
		{"nflog bare", v6, m, "INPUT", rule{Target: target{Verb: rules.NFLog}}, "-j NFLOG --nflog-group 0"},
	}
	for i := range samples {
		samples[i].Rule.Purpose = "sample"
		samples[i].Rule.Tunnel = "a.b:c=d/e-f_g"
	}
	return samples
}

// Ruleset is the smallest rule set in which the sample stands.
func (s Sample) Ruleset() rules.Ruleset {
	rs := rules.Ruleset{
		Family: s.Family,
		Chains: []rules.Chain{{Table: s.Table, Name: "XFRMFW-SAMPLE", Rules: rules.ListOf(s.Rule)}},
		Hooks:  []rules.Hook{{Table: s.Table, From: s.From, To: "XFRMFW-SAMPLE"}},
	}
	if to := s.Rule.Target.Chain; to != "" {
		rs.Chains = append(rs.Chains, rules.Chain{Table: s.Table, Name: to})
	}
	return rs
}
