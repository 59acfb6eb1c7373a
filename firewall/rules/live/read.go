package live

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Standing reads all rules in our chains, wanted or not, and the jumps to these. A rule
// is read if it has the identity that its comment tells: a rule that another program
// changed or added is among the unread ones, and its effect is not known.
func Standing(family xfrm.Family, have Tables) (rs rules.Ruleset, unread []UnexpectedRule) {
	rs.Family = family
	for _, t := range have.Tables {
		for _, c := range t.Chains {
			if !c.Ours() {
				for _, r := range c.Rules {
					if r.Jump() {
						rs.Hooks = append(rs.Hooks, rules.Hook{Table: t.Name, From: c.Name, To: r.Target})
					}
				}
				continue
			}
			var list []rules.Rule
			for _, r := range c.Rules {
				rule, ok := readRule(r.Raw)
				rule.Purpose, rule.Tunnel = r.Purpose, r.Tunnel
				if ok && rules.ID(family, t.Name, c.Name, rule) == r.ID {
					list = append(list, rule)
				} else {
					unread = append(unread, UnexpectedRule{t.Name, c.Name, r.Raw})
				}
			}
			rs.Chains = append(rs.Chains, rules.Chain{Table: t.Name, Name: c.Name, Rules: rules.ListOf(list...)})
		}
	}
	return rs, unread
}

// reader reads the words of one rule. The first word that it does not know ends it.
type reader struct {
	rule rules.Rule
	bad  bool
}

// readRule turns a rule as iptables-save prints it to a value, and reports whether all of
// its words are known.
func readRule(raw string) (rules.Rule, bool) {
	words, ok := splitWords(raw)
	if !ok {
		return rules.Rule{}, false
	}
	r := reader{}
	not := false
	for i := 0; i < len(words); i++ {
		option := words[i]
		if option == "!" {
			not = true
			continue
		}
		n := 1 // the option's values
		switch option {
		case "--invert":
			n = 0
		case "--tcp-flags":
			n = 2
		}
		if i+n >= len(words) {
			return rules.Rule{}, false
		}
		value := ""
		if n > 0 {
			value = words[i+1]
		}
		i += n
		r.option(option, value, not)
		not = false
	}
	return r.rule, !r.bad
}

// splitWords parts a line at blanks, and takes quotes away.
func splitWords(s string) ([]string, bool) {
	var words []string
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		n, ok := wordLen(s)
		if !ok {
			return nil, false
		}
		words = append(words, strings.Trim(s[:n], `"`))
		s = s[n:]
	}
	return words, true
}

func (r *reader) option(option, value string, not bool) {
	u := &r.rule
	switch option {
	case "-m", "--comment", "--mode", "--reject-with", "--tcp-flags":
	case "-s":
		u.Src = r.prefix(value)
	case "-d":
		u.Dst = r.prefix(value)
	case "-i":
		u.In = value
	case "-o":
		u.Out = value
	case "-p":
		u.Proto = r.proto(value)
	case "--sport":
		u.SPorts = r.ports(value)
	case "--dport":
		u.DPorts = r.ports(value)
	case "--icmp-type", "--icmpv6-type":
		kind, code, hasCode := strings.Cut(value, "/")
		u.ICMP = rules.ICMPMatch{Set: true, Type: uint8(r.number(kind, 8)), HasCode: hasCode}
		if hasCode {
			u.ICMP.Code = uint8(r.number(code, 8))
		}
	case "--mark":
		u.Mark = rules.MarkMatch{Not: not}
		u.Mark.Value, u.Mark.Mask = r.mark(value)
		not = false
	case "--src-type":
		u.SrcType = rules.AddrType(value)
	case "--dst-type":
		u.DstType = rules.AddrType(value)
	case "--invert":
		u.RPFilterInvert = true
	case "--limit":
		rate, _, _ := strings.Cut(value, "/")
		u.Limit.PerSecond = uint16(r.number(rate, 16))
	case "--limit-burst":
		u.Limit.Burst = uint16(r.number(value, 16))
	default:
		if !r.policy(option, value) && !r.conntrack(option, value, not) && !r.target(option, value) {
			r.bad = true
		}
		not = not && !strings.HasPrefix(option, "--ct")
	}
	r.bad = r.bad || not
}

func (r *reader) policy(option, value string) bool {
	p := &r.rule.Policy
	switch option {
	case "--dir":
		p.Dir = rules.PolicyIn
		if value == "out" {
			p.Dir = rules.PolicyOut
		}
	case "--pol":
		p.None = value == "none"
	case "--reqid":
		p.HasReqid, p.Reqid = true, uint32(r.number(value, 32))
	case "--proto":
		p.Proto = r.proto(value)
	case "--tunnel-src":
		p.TunnelSrc = r.prefix(value)
	case "--tunnel-dst":
		p.TunnelDst = r.prefix(value)
	default:
		return false
	}
	return true
}

func (r *reader) conntrack(option, value string, not bool) bool {
	c := &r.rule.Ct
	switch option {
	case "--ctstate":
		c.NotState = not
		for name := range strings.SplitSeq(value, ",") {
			switch name {
			case "RELATED":
				c.State |= rules.CtRelated
			case "ESTABLISHED":
				c.State |= rules.CtEstablished
			case "SNAT":
				c.State |= rules.CtSNAT
			case "DNAT":
				c.State |= rules.CtDNAT
			default:
				return false
			}
		}
	case "--ctproto":
		c.Proto = r.proto(value)
	case "--ctorigsrc":
		c.OrigSrc, c.NotOrigSrc = r.prefix(value), not
	case "--ctorigdst":
		c.OrigDst, c.NotOrigDst = r.prefix(value), not
	case "--ctreplsrc":
		c.ReplSrc, c.NotReplSrc = r.prefix(value), not
	case "--ctrepldst":
		c.ReplDst, c.NotReplDst = r.prefix(value), not
	case "--ctorigsrcport":
		c.OrigSPorts = r.ports(value)
	case "--ctorigdstport":
		c.OrigDPorts = r.ports(value)
	case "--ctdir":
		c.Dir = rules.CtOriginal
		if value == "REPLY" {
			c.Dir = rules.CtReply
		}
	default:
		return false
	}
	return true
}

func (r *reader) target(option, value string) bool {
	t := &r.rule.Target
	switch option {
	case "-g":
		*t = rules.Target{Verb: rules.Goto, Chain: value}
	case "-j":
		switch value {
		case "ACCEPT":
			t.Verb = rules.Accept
		case "DROP":
			t.Verb = rules.Drop
		case "RETURN":
			t.Verb = rules.Return
		case "MARK":
			t.Verb = rules.SetMark
		case "REJECT":
			t.Verb = rules.Reject
		case "TCPMSS":
			t.Verb = rules.ClampMSS
		case "LOG":
			t.Verb = rules.Log
		case "NFLOG":
			t.Verb = rules.NFLog
		default:
			*t = rules.Target{Verb: rules.Jump, Chain: value}
		}
	case "--set-xmark":
		t.Value, t.Mask = r.mark(value)
	case "--set-mss":
		t.Size = uint16(r.number(value, 16))
	case "--log-prefix", "--nflog-prefix":
		t.Prefix = value
	case "--nflog-group":
		t.Group = uint16(r.number(value, 16))
	default:
		return false
	}
	return true
}

func (r *reader) number(text string, bits int) uint64 {
	n, err := strconv.ParseUint(text, 0, bits)
	r.bad = r.bad || err != nil
	return n
}

func (r *reader) mark(text string) (value, mask uint32) {
	first, second, ok := strings.Cut(text, "/")
	if !ok {
		return uint32(r.number(first, 32)), 0xffffffff
	}
	return uint32(r.number(first, 32)), uint32(r.number(second, 32))
}

func (r *reader) prefix(text string) netip.Prefix {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	r.bad = r.bad || err != nil
	return p
}

func (r *reader) ports(text string) firewall.Ports {
	lo, hi, isRange := strings.Cut(text, ":")
	p := firewall.Port(uint16(r.number(lo, 16)))
	if isRange {
		p.Hi = uint16(r.number(hi, 16))
	}
	return p
}

func (r *reader) proto(text string) xfrm.Proto {
	switch text { // names of /etc/protocols that are not ours
	case "ipv6-icmp":
		return xfrm.ICMPv6
	case "ipencap":
		return xfrm.IPIP
	case "ipv6":
		return xfrm.IPv6in
	}
	p, err := xfrm.ParseProto(text)
	r.bad = r.bad || err != nil
	return p
}
