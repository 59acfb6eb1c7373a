package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/expect"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
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

// maxIKEPorts bounds the rules, because each address of the host has one for each port.
const maxIKEPorts = 8

// ikePorts reads the ports of IKE besides 500 and 4500.
func (p *parser) ikePorts(node ast.Node) {
	p.list(node, "ike_ports", "ike_ports: [10500, 14500]", func(n ast.Node) {
		port, ok := p.number(n, "a port of ike_ports", "14500")
		switch {
		case !ok:
		case port < 1 || port > 65535:
			p.fail(place(n), "port %d: ports go from 1 to 65535", port)
		case port == firewall.IKE || port == firewall.NATT:
			p.fail(place(n), "port %d is IKE's in any case: leave it out", port)
		case slices.Contains(p.config.IKEPorts, uint16(port)):
			p.fail(place(n), "port %d stands twice: keep one", port)
		case len(p.config.IKEPorts) == maxIKEPorts:
			p.fail(place(n), "port %d is one too many: there is room for %d", port, maxIKEPorts)
		default:
			p.config.IKEPorts = append(p.config.IKEPorts, uint16(port))
		}
	})
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

// tests reads packets and the verdict that each must have.
func (p *parser) tests(node ast.Node) {
	p.list(node, "tests", "a list of packets, each \"- {in: eth0, src: 10.1.0.9, dst: 10.2.0.1, expect: drop spoof}\"", func(n ast.Node) {
		t := expect.Test{}
		before := len(p.errs) + p.more
		if !p.walk(n, "a test", p.testWords(&t)) || len(p.errs)+p.more > before {
			return
		}
		at := place(n)
		ported := t.Proto == xfrm.TCP || t.Proto == xfrm.UDP || t.Proto == xfrm.SCTP
		switch {
		case t.Expect.Action == "":
			p.fail(at, "the test has no expect: write the verdict, such as expect: drop spoof")
		case (t.SPorts != firewall.Ports{} || t.DPorts != firewall.Ports{}) && !ported:
			p.fail(at, "ports need proto: tcp, udp or sctp")
		case t.ICMP.Set && t.Proto != xfrm.ICMP:
			p.fail(at, "icmp_type needs proto: icmp")
		case t.Src.IsValid() && t.Dst.IsValid() && t.Src.Addr().Is4() != t.Dst.Addr().Is4():
			p.fail(at, "src %s and dst %s are of two families", t.Src, t.Dst)
		case t.In == "" && t.Out != "" && (t.HasReqid || t.Tag):
			p.fail(at, "reqid and tag are for packets that come in: name the interface with in")
		default:
			if t.Name == "" {
				t.Name = fmt.Sprintf("line %d", at.Position.Line)
			}
			if slices.ContainsFunc(p.testList, func(o expect.Test) bool { return o.Name == t.Name }) {
				p.fail(at, "two tests have the name %s: give each its own", quote(t.Name))
				return
			}
			p.testList = append(p.testList, t)
		}
	})
}

// testWords are the words of one test: those of xfrmfw explain.
func (p *parser) testWords(t *expect.Test) words {
	return words{
		"name":  func(n ast.Node) { t.Name = p.testName(n) },
		"in":    func(n ast.Node) { t.In = p.oneInterface(n, "in") },
		"out":   func(n ast.Node) { t.Out = p.oneInterface(n, "out") },
		"src":   func(n ast.Node) { t.Src = p.anyPrefix(n, "src") },
		"dst":   func(n ast.Node) { t.Dst = p.anyPrefix(n, "dst") },
		"proto": func(n ast.Node) { t.Proto = p.proto(n) },
		"sport": func(n ast.Node) { t.SPorts = p.anyPorts(n, "sport") },
		"dport": func(n ast.Node) { t.DPorts = p.anyPorts(n, "dport") },
		"icmp_type": func(n ast.Node) {
			if i, ok := p.number(n, "icmp_type", "3"); ok && i > 255 {
				p.fail(place(n), "icmp_type is %d: want 0 to 255", i)
			} else if ok {
				t.ICMP = rules.ICMPMatch{Set: true, Type: uint8(i)}
			}
		},
		"reqid": func(n ast.Node) { t.Reqid, t.HasReqid = p.number(n, "reqid", "11") },
		"tag": func(n ast.Node) {
			if p.noting.noteTruth() {
				return
			}
			b, ok := n.(*ast.BoolNode)
			if !ok {
				p.fail(place(n), "tag must be true or false, not %s", kind(n))
				return
			}
			t.Tag = b.Value
		},
		"ctstate": func(n ast.Node) { t.Established = p.choice(n, "ctstate", "new", "established") == "established" },
		"expect": func(n ast.Node) {
			text, ok := p.scalar(n, "expect")
			if !ok {
				return
			}
			e, err := expect.Parse(text)
			if err != nil {
				p.fail(place(n), "expect is %s", err)
				return
			}
			t.Expect = e
		},
	}
}

// testName reads a name, which stands in reports.
func (p *parser) testName(node ast.Node) string {
	text, ok := p.scalar(node, "name")
	if ok && (len(text) > 100 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == '#' || r > '~' })) {
		p.fail(place(node), "name %s: use up to 100 letters, digits and signs of ASCII but #", quote(text))
	}
	return text
}

func (p *parser) oneInterface(node ast.Node, key string) string {
	name, ok := p.scalar(node, key)
	if !ok {
		return ""
	}
	if problem := interfaceProblem(name); problem != "" {
		p.fail(place(node), "interface %s: %s", quote(name), problem)
	}
	return name
}

// anyPrefix reads an address, a prefix, or any.
func (p *parser) anyPrefix(node ast.Node, key string) netip.Prefix {
	if p.noting.noteText() {
		return netip.Prefix{}
	}
	if s, ok := node.(*ast.StringNode); ok && s.Value == "any" {
		return netip.Prefix{}
	}
	return p.prefix(node, key)
}

// proto reads a protocol by its name or number, or any.
func (p *parser) proto(node ast.Node) xfrm.Proto {
	if p.noting.noteText() && p.noting.noteNumber() {
		return 0
	}
	text := ""
	if n, ok := node.(*ast.IntegerNode); ok {
		text = n.Token.Value
	} else if text, ok = p.scalar(node, "proto"); !ok || text == "any" {
		return 0
	}
	if text == "icmpv6" || text == "ipv6-icmp" {
		text = "icmp"
	}
	proto, err := xfrm.ParseProto(text)
	if err != nil || proto == 0 {
		p.fail(place(node), "proto is %s: write tcp, udp, sctp, icmp, esp, ah, gre, any or a number from 1 to 255", quote(text))
	}
	return proto
}

// anyPorts reads a port, a range such as 5000-5100, or any.
func (p *parser) anyPorts(node ast.Node, key string) firewall.Ports {
	if p.noting.noteText() && p.noting.noteNumber() {
		return firewall.Ports{}
	}
	text := ""
	if n, ok := node.(*ast.IntegerNode); ok {
		text = n.Token.Value
	} else if text, ok = p.scalar(node, key); !ok || text == "any" {
		return firewall.Ports{}
	}
	first, last, isRange := strings.Cut(text, "-")
	lo, err := strconv.ParseUint(first, 10, 16)
	hi := lo
	if err == nil && isRange {
		hi, err = strconv.ParseUint(last, 10, 16)
	}
	if err != nil || lo == 0 || hi < lo {
		p.fail(place(node), "%s is %s: write a port, a range such as 5000-5100, or any", key, quote(text))
		return firewall.Ports{}
	}
	return firewall.Ports{Lo: uint16(lo), Hi: uint16(hi)}
}
