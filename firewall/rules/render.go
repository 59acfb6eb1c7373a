package rules

import (
	"net/netip"
	"strconv"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// AppendRule appends the rule's matches and target in iptables-restore's words,
// without "-A CHAIN" and without the comment, and returns the longer buffer.
// The words are in the order in which netfilter should try them: addresses and
// protocol are the rule's own, cheap matches go before dear ones.
func AppendRule(b []byte, family xfrm.Family, r Rule) []byte {
	start := len(b)
	b = appendPrefix(b, " -s ", r.Src)
	b = appendPrefix(b, " -d ", r.Dst)
	b = appendWord(b, " -i ", r.In)
	b = appendWord(b, " -o ", r.Out)
	if r.Proto != 0 {
		b = append(b, " -p "...)
		b = appendProto(b, family, r.Proto)
	}
	b = appendPorts(b, r)
	b = appendICMP(b, r)
	if r.Mark.Mask != 0 {
		b = append(b, " -m mark"...)
		b = appendNot(b, r.Mark.Not)
		b = append(b, " --mark "...)
		b = appendMark(b, r.Mark.Value, r.Mark.Mask)
	}
	b = appendPolicy(b, r.Policy)
	if r.SrcType != "" || r.DstType != "" {
		b = append(b, " -m addrtype"...)
		b = appendWord(b, " --src-type ", string(r.SrcType))
		b = appendWord(b, " --dst-type ", string(r.DstType))
	}
	b = appendCt(b, r.Ct)
	if r.RPFilterInvert {
		b = append(b, " -m rpfilter --invert"...)
	}
	if r.Limit.PerSecond != 0 {
		b = append(b, " -m limit --limit "...)
		b = strconv.AppendUint(b, uint64(r.Limit.PerSecond), 10)
		b = append(b, "/second --limit-burst "...)
		b = strconv.AppendUint(b, uint64(max(r.Limit.Burst, 1)), 10)
	}
	b = appendTarget(b, family, r.Target)
	if len(b) > start && b[start] == ' ' {
		b = append(b[:start], b[start+1:]...)
	}
	return b
}

// Text returns the rule as AppendRule renders it.
func (r Rule) Text(family xfrm.Family) string { return string(AppendRule(nil, family, r)) }

func appendWord(b []byte, option, word string) []byte {
	if word == "" {
		return b
	}
	return append(append(b, option...), word...)
}

func appendPrefix(b []byte, option string, p netip.Prefix) []byte {
	if !p.IsValid() || p.Bits() == 0 {
		return b
	}
	return p.AppendTo(append(b, option...))
}

// appendNetwork writes a single address without its length, as iptables-save does.
func appendNetwork(b []byte, p netip.Prefix) []byte {
	if p.IsSingleIP() {
		return p.Addr().AppendTo(b)
	}
	return p.AppendTo(b)
}

func appendNot(b []byte, not bool) []byte {
	if not {
		return append(b, " !"...)
	}
	return b
}

func appendMark(b []byte, value, mask uint32) []byte {
	b = strconv.AppendUint(append(b, "0x"...), uint64(value), 16)
	return strconv.AppendUint(append(b, "/0x"...), uint64(mask), 16)
}

// appendProto spells protocols as iptables-save does, by number where a name
// would depend on /etc/protocols.
func appendProto(b []byte, family xfrm.Family, p xfrm.Proto) []byte {
	switch p {
	case xfrm.TCP, xfrm.UDP, xfrm.ICMP, xfrm.ESP, xfrm.AH, xfrm.SCTP:
		return append(b, p.String()...)
	case xfrm.ICMPv6:
		if family == xfrm.IPv6 {
			return append(b, "ipv6-icmp"...)
		}
	}
	return strconv.AppendUint(b, uint64(p), 10)
}

func appendPorts(b []byte, r Rule) []byte {
	if r.SPorts == (firewall.Ports{}) && r.DPorts == (firewall.Ports{}) {
		return b
	}
	b = append(append(b, " -m "...), r.Proto.String()...)
	b = appendRange(b, " --sport ", r.SPorts)
	return appendRange(b, " --dport ", r.DPorts)
}

func appendRange(b []byte, option string, p firewall.Ports) []byte {
	if p == (firewall.Ports{}) {
		return b
	}
	b = strconv.AppendUint(append(b, option...), uint64(p.Lo), 10)
	if p.Hi != p.Lo {
		b = strconv.AppendUint(append(b, ':'), uint64(p.Hi), 10)
	}
	return b
}

func appendICMP(b []byte, r Rule) []byte {
	if !r.ICMP.Set {
		return b
	}
	if r.Proto == xfrm.ICMPv6 {
		b = append(b, " -m icmp6 --icmpv6-type "...)
	} else {
		b = append(b, " -m icmp --icmp-type "...)
	}
	b = strconv.AppendUint(b, uint64(r.ICMP.Type), 10)
	if r.ICMP.HasCode {
		b = strconv.AppendUint(append(b, '/'), uint64(r.ICMP.Code), 10)
	}
	return b
}

func appendPolicy(b []byte, p PolicyMatch) []byte {
	switch p.Dir {
	case NoPolicy:
		return b
	case PolicyIn:
		b = append(b, " -m policy --dir in"...)
	case PolicyOut:
		b = append(b, " -m policy --dir out"...)
	}
	if p.None {
		return append(b, " --pol none"...)
	}
	b = append(b, " --pol ipsec"...)
	if p.HasReqid {
		b = strconv.AppendUint(append(b, " --reqid "...), uint64(p.Reqid), 10)
	}
	if p.Proto != 0 {
		b = append(append(b, " --proto "...), p.Proto.String()...)
	}
	if p.TunnelSrc.IsValid() || p.TunnelDst.IsValid() {
		b = append(b, " --mode tunnel"...)
	}
	if p.TunnelDst.IsValid() {
		b = appendNetwork(append(b, " --tunnel-dst "...), p.TunnelDst)
	}
	if p.TunnelSrc.IsValid() {
		b = appendNetwork(append(b, " --tunnel-src "...), p.TunnelSrc)
	}
	return b
}

func appendCt(b []byte, c CtMatch) []byte {
	if c == (CtMatch{}) {
		return b
	}
	b = append(b, " -m conntrack"...)
	if c.State != 0 {
		b = appendNot(b, c.NotState)
		b = append(b, " --ctstate "...)
		for i, name := range [...]string{"RELATED", "ESTABLISHED", "SNAT", "DNAT"} {
			if c.State&(1<<i) != 0 {
				b = append(append(b, name...), ',')
			}
		}
		b = b[:len(b)-1]
	}
	if c.Proto != 0 {
		b = strconv.AppendUint(append(b, " --ctproto "...), uint64(c.Proto), 10)
	}
	for _, t := range [...]struct {
		option string
		prefix netip.Prefix
		not    bool
	}{
		{" --ctorigsrc ", c.OrigSrc, c.NotOrigSrc},
		{" --ctorigdst ", c.OrigDst, c.NotOrigDst},
		{" --ctreplsrc ", c.ReplSrc, c.NotReplSrc},
		{" --ctrepldst ", c.ReplDst, c.NotReplDst},
	} {
		if t.prefix.IsValid() {
			b = appendNot(b, t.not)
			b = t.prefix.AppendTo(append(b, t.option...))
		}
	}
	b = appendRange(b, " --ctorigsrcport ", c.OrigSPorts)
	b = appendRange(b, " --ctorigdstport ", c.OrigDPorts)
	switch c.Dir {
	case CtOriginal:
		b = append(b, " --ctdir ORIGINAL"...)
	case CtReply:
		b = append(b, " --ctdir REPLY"...)
	}
	return b
}

func appendTarget(b []byte, family xfrm.Family, t Target) []byte {
	switch t.Verb {
	case Count:
	case Accept:
		b = append(b, " -j ACCEPT"...)
	case Drop:
		b = append(b, " -j DROP"...)
	case Return:
		b = append(b, " -j RETURN"...)
	case Jump:
		b = append(append(b, " -j "...), t.Chain...)
	case Goto:
		b = append(append(b, " -g "...), t.Chain...)
	case SetMark:
		b = appendMark(append(b, " -j MARK --set-xmark "...), t.Value, t.Mask)
	case Reject:
		if family == xfrm.IPv6 {
			b = append(b, " -j REJECT --reject-with icmp6-adm-prohibited"...)
		} else {
			b = append(b, " -j REJECT --reject-with icmp-admin-prohibited"...)
		}
	case ClampMSS:
		// The kernel refuses the target in a rule that doesn't ask for SYN.
		b = append(b, " -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss "...)
		b = strconv.AppendUint(b, uint64(t.Size), 10)
	case Log:
		b = appendWord(append(b, " -j LOG"...), " --log-prefix ", t.Prefix)
	case NFLog:
		b = strconv.AppendUint(append(b, " -j NFLOG --nflog-group "...), uint64(t.Group), 10)
		b = appendWord(b, " --nflog-prefix ", t.Prefix)
	}
	return b
}
