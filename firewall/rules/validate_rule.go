package rules

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The limits of the targets and the limit match.
const (
	MaxLogPrefix   = 29
	MaxNFLogPrefix = 63
	maxRate        = 10000
)

func validRule(family xfrm.Family, table Table, from Hooks, r *Rule) error {
	if err := validComment(r); err != nil {
		return err
	}
	if err := validAddresses(family, r); err != nil {
		return err
	}
	if err := validInterfaces(from, r); err != nil {
		return err
	}
	if err := validProto(family, r); err != nil {
		return err
	}
	if err := validPolicy(from, r.Policy); err != nil {
		return err
	}
	switch {
	case r.Mark.Value&^r.Mark.Mask != 0:
		return errors.New("the mark has bits outside of its mask")
	case !upper(string(r.SrcType)), !upper(string(r.DstType)):
		return errors.New("no such type of address")
	case r.Ct.State >= 1<<4:
		return errors.New("no such conntrack state")
	case (r.Ct.OrigSPorts != firewall.Ports{} || r.Ct.OrigDPorts != firewall.Ports{}) && r.Ct.Proto == 0:
		return errors.New("the conntrack match asks for the port of any protocol")
	case r.Ct.OrigSPorts.Lo > r.Ct.OrigSPorts.Hi, r.Ct.OrigDPorts.Lo > r.Ct.OrigDPorts.Hi:
		return errors.New("a range of ports in the conntrack match ends before it begins")
	case r.Ct != (CtMatch{}) && r.Ct.State == 0 && r.Ct.Proto == 0 && r.Ct.Dir == CtAnyDir && r.Ct.OrigSrc == noPrefix &&
		r.Ct.OrigDst == noPrefix && r.Ct.ReplSrc == noPrefix && r.Ct.ReplDst == noPrefix:
		return errors.New("the conntrack match asks for nothing")
	case r.RPFilterInvert && (table != Mangle || from != prerouting):
		return errors.New("rpfilter works in PREROUTING of mangle only")
	case r.Limit.PerSecond > maxRate || r.Limit.Burst > maxRate:
		return fmt.Errorf("the limit is above %d", maxRate)
	}
	return validTarget(table, from, r)
}

var noPrefix netip.Prefix

func validComment(r *Rule) error {
	switch {
	case r.Purpose == "":
		return errors.New("no purpose")
	case !safeText(string(r.Purpose)) || !safeText(r.Tunnel):
		return fmt.Errorf("purpose %q or tunnel %q is outside of the alphabet [A-Za-z0-9_.:=/-]", r.Purpose, r.Tunnel)
	case len(CommentPrefix)+IDLen+1+len(r.Purpose)+1+len(r.Tunnel) > maxComment:
		return fmt.Errorf("the comment is longer than %d bytes", maxComment)
	}
	for i := range len(r.Purpose) {
		if r.Purpose[i] == '/' {
			return fmt.Errorf("purpose %q has a slash", r.Purpose)
		}
	}
	return nil
}

func validAddresses(family xfrm.Family, r *Rule) error {
	for _, p := range [...]netip.Prefix{r.Src, r.Dst, r.Ct.OrigSrc, r.Ct.OrigDst, r.Ct.ReplSrc, r.Ct.ReplDst, r.Policy.TunnelSrc, r.Policy.TunnelDst} {
		if p.IsValid() && !fits(family, p.Addr()) {
			return fmt.Errorf("%s is not of %s", p, family)
		}
	}
	return nil
}

func fits(family xfrm.Family, a netip.Addr) bool {
	if family == xfrm.IPv4 {
		return a.Is4()
	}
	return a.Is6() && !a.Is4In6() && a.Zone() == ""
}

func validInterfaces(from Hooks, r *Rule) error {
	for _, name := range [...]string{r.In, r.Out} {
		if name == "" {
			continue
		}
		if !device.SafeName(name) {
			return fmt.Errorf("interface %q has a name that iptables can't be told", name)
		}
	}
	switch {
	case r.In != "" && from&(prerouting|input|forward) == 0:
		return errors.New("no packet there has come in by an interface")
	case r.Out != "" && from&(forward|output|postrouting) == 0:
		return errors.New("no packet there goes out by an interface yet")
	}
	return nil
}

func validProto(family xfrm.Family, r *Rule) error {
	ports := r.SPorts != firewall.Ports{} || r.DPorts != firewall.Ports{}
	switch {
	case ports && r.Proto != xfrm.TCP && r.Proto != xfrm.UDP && r.Proto != xfrm.SCTP:
		return errors.New("ports need tcp, udp or sctp")
	case r.SPorts.Lo > r.SPorts.Hi || r.DPorts.Lo > r.DPorts.Hi:
		return errors.New("the range of ports is upside down")
	case r.ICMP == (ICMPMatch{}):
		return nil
	case !r.ICMP.Set:
		return errors.New("an ICMP type that is not set")
	case family == xfrm.IPv4 && r.Proto != xfrm.ICMP, family == xfrm.IPv6 && r.Proto != xfrm.ICMPv6:
		return errors.New("an ICMP type needs the ICMP of its family")
	}
	return nil
}

func validPolicy(from Hooks, p PolicyMatch) error {
	switch p.Dir {
	case NoPolicy:
		if p != (PolicyMatch{}) {
			return errors.New("a policy match without direction")
		}
	case PolicyIn:
		if from&(output|postrouting) != 0 {
			return errors.New("the kernel refuses --dir in where OUTPUT or POSTROUTING lead")
		}
	case PolicyOut:
		if from&(prerouting|input) != 0 {
			return errors.New("the kernel refuses --dir out where PREROUTING or INPUT lead")
		}
	default:
		return errors.New("no such policy direction")
	}
	switch {
	case p.None && p != (PolicyMatch{Dir: p.Dir, None: true}):
		return errors.New("--pol none ignores all other fields")
	case p.Proto != 0 && p.Proto != xfrm.ESP && p.Proto != xfrm.AH:
		return errors.New("the policy match knows ESP and AH")
	case p.Reqid != 0 && !p.HasReqid:
		return errors.New("a reqid that is not matched")
	}
	return nil
}

func validTarget(table Table, from Hooks, r *Rule) error {
	t := r.Target
	switch t.Verb {
	case Count, Accept, Return, Jump, Goto:
	case Drop:
		if table == NAT {
			return errors.New("iptables refuses DROP in nat")
		}
	case SetMark:
		if table != Mangle {
			return errors.New("marks are set in mangle only")
		}
		if t.Value&^t.Mask != 0 || t.Mask == 0 {
			return errors.New("the mark to set is not within its mask")
		}
	case Reject:
		if table != Filter || from&^(input|forward|output) != 0 {
			return errors.New("REJECT works in INPUT, FORWARD and OUTPUT of filter only")
		}
	case ClampMSS:
		if r.Proto != xfrm.TCP || t.Size == 0 {
			return errors.New("clamping needs tcp and a size")
		}
	case Log:
		return validPrefix(t.Prefix, MaxLogPrefix)
	case NFLog:
		return validPrefix(t.Prefix, MaxNFLogPrefix)
	default:
		return errors.New("no such target")
	}
	if t.Chain != "" && !r.Leads() {
		return errors.New("a chain without jump or goto")
	}
	return nil
}

func validPrefix(prefix string, limit int) error {
	if len(prefix) > limit || !safeText(prefix) {
		return fmt.Errorf("log prefix %q is longer than %d bytes or outside of the alphabet [A-Za-z0-9_.:=/-]", prefix, limit)
	}
	return nil
}

func upper(s string) bool {
	for i := range len(s) {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return true
}
