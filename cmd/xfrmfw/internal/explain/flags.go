package explain

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Flags are the flags of a query in their written form.
type Flags struct {
	Src, Dst, In, Out, Proto, ICMPType, Ct string
	SPort, DPort                           uint16
	Reqid, Mark                            uint32
	Tag                                    bool
}

// Query reads the flags. Given reports whether a flag was given. Errors name the flag.
func (f Flags) Query(given func(string) bool) (Query, error) {
	q := Query{
		In: f.In, Out: f.Out, SPort: f.SPort, DPort: f.DPort,
		Reqid: f.Reqid, HasReqid: given("reqid"), Tag: f.Tag, Mark: f.Mark, Ct: f.Ct,
	}
	for _, a := range [...]struct {
		flag, text string
		to         *netip.Addr
	}{{"src", f.Src, &q.Src}, {"dst", f.Dst, &q.Dst}} {
		if a.text == "" {
			return q, fmt.Errorf("--%s is missing: explain wants --src, --dst and --proto", a.flag)
		}
		addr, err := netip.ParseAddr(a.text)
		if err != nil {
			return q, fmt.Errorf("--%s %s: want an IP address", a.flag, a.text)
		}
		*a.to = addr
	}
	switch f.Ct {
	case CtNew, CtEstablished, CtRelated:
	default:
		return q, fmt.Errorf("--ctstate %s: want new, established or related", f.Ct)
	}
	if err := f.upper(&q, given); err != nil {
		return q, err
	}
	return q, nil
}

// upper reads the protocol with its ports or types.
func (f Flags) upper(q *Query, given func(string) bool) error {
	if f.Proto == "" {
		return fmt.Errorf("--proto is missing: such as --proto tcp --dport 22, or --proto icmp")
	}
	name := strings.ToLower(f.Proto)
	if name == "ipv6-icmp" || name == "icmp" && q.Src.Is6() {
		name = "icmpv6"
	}
	proto, err := xfrm.ParseProto(name)
	if err != nil || proto == 0 {
		return fmt.Errorf("--proto %s: not a protocol that is known by name; give its number, 1 to 255", f.Proto)
	}
	q.Proto = proto
	if proto == xfrm.ICMP && q.Src.Is6() || proto == xfrm.ICMPv6 && q.Src.Is4() {
		return fmt.Errorf("--proto %s does not go with --src %s", f.Proto, q.Src)
	}
	ported, icmp := proto.HasPorts(), proto.IsICMP()
	switch {
	case !ported && (given("dport") || given("sport")):
		return fmt.Errorf("--proto %s has no ports: leave out --dport and --sport", f.Proto)
	case ported && !given("dport"):
		return fmt.Errorf("--proto %s wants --dport", f.Proto)
	case ported && (f.DPort == 0 || given("sport") && f.SPort == 0):
		return fmt.Errorf("port 0 is not valid: want 1 to 65535")
	case !icmp && f.ICMPType != "":
		return fmt.Errorf("--icmp-type goes with --proto icmp")
	}
	if !icmp {
		return nil
	}
	if f.ICMPType == "" {
		q.ICMPType = 8
		if proto == xfrm.ICMPv6 {
			q.ICMPType = 128
		}
		return nil
	}
	kind, code, hasCode := strings.Cut(f.ICMPType, "/")
	q.ICMPType, err = parseByte(kind)
	if err == nil && hasCode {
		q.ICMPCode, err = parseByte(code)
	}
	if err != nil {
		return fmt.Errorf("--icmp-type %s: want a type or type/code, such as 3/4", f.ICMPType)
	}
	return nil
}

func parseByte(text string) (uint8, error) {
	n, err := strconv.ParseUint(text, 10, 8)
	return uint8(n), err
}
