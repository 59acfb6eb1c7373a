package config

import (
	"regexp"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml/ast"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// lockdown reads the services that come in from outside besides IPsec.
func (p *parser) lockdown(node ast.Node) {
	l := &firewall.Lockdown{}
	if p.walk(node, "lockdown", words{
		"services": func(n ast.Node) { l.Services = p.services(n, "services") },
	}) {
		p.config.Lockdown = l
		// The words of a file may stand in any order.
		p.later = append(p.later, func() {
			if len(p.config.WAN) == 0 {
				p.fail(place(node), "lockdown needs to know the outer interfaces: add wan: [eth0]")
			}
		})
	}
}

// services reads a list such as [tcp/22, udp/5000-5010, icmp].
func (p *parser) services(node ast.Node, key string) []firewall.Service {
	list := []firewall.Service{}
	p.list(node, key, key+": [tcp/22, icmp]", func(n ast.Node) {
		text, ok := p.scalar(n, "a service of "+key)
		if !ok {
			return
		}
		s, problem := service(text)
		switch {
		case problem != "":
			p.fail(place(n), "service %s: %s", quote(text), problem)
		case slices.Contains(list, s):
			p.fail(place(n), "service %s stands twice: keep one", quote(text))
		default:
			list = append(list, s)
		}
	})
	return list
}

// service reads a protocol, with a port or a range of ports where it has ports.
func service(text string) (firewall.Service, string) {
	const form = "write a protocol, with a port or range if it has ports, such as tcp/22, udp/5000-5010 or icmp"
	m := regexp.MustCompile(`^([a-z0-9]+)(?:/([0-9]{1,5})(?:-([0-9]{1,5}))?)?$`).FindStringSubmatch(text)
	if m == nil {
		return firewall.Service{}, form
	}
	proto, err := xfrm.ParseProto(m[1])
	if err != nil || proto == 0 {
		return firewall.Service{}, form
	}
	if proto == xfrm.ICMPv6 {
		return firewall.Service{}, "icmp stands for both: write icmp"
	}
	s := firewall.Service{Proto: proto}
	if m[2] == "" {
		return s, ""
	}
	if proto != xfrm.TCP && proto != xfrm.UDP && proto != xfrm.SCTP {
		return s, "this protocol has no ports: leave them out"
	}
	if m[3] == "" {
		m[3] = m[2]
	}
	lo, err := strconv.ParseUint(m[2], 10, 16)
	hi, err2 := strconv.ParseUint(m[3], 10, 16)
	if err != nil || err2 != nil || lo == 0 || hi < lo {
		return s, "ports go from 1 to 65535, the lower one first"
	}
	s.Ports = firewall.Ports{Lo: uint16(lo), Hi: uint16(hi)}
	return s, ""
}

// mss reads auto, off or a segment size.
func (p *parser) mss(node ast.Node) firewall.MSS {
	if _, ok := node.(*ast.IntegerNode); !ok {
		return firewall.MSS{Auto: p.choice(node, "mss", "auto", "off") == "auto"}
	}
	n, ok := p.number(node, "mss", "1360")
	if ok && (n < 536 || n > 65000) {
		p.fail(place(node), "mss is %d: write auto, off, or 536 to 65000", n)
	}
	return firewall.MSS{Size: uint16(n)}
}
