package compile

import (
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// world is a gateway under test: its snapshot and configuration, compiled.
type world struct {
	snapshot xfrm.Snapshot
	config   firewall.Config
	result   Result
	eval     map[xfrm.Family]trace.Evaluator
	t        *testing.T
	// mirror is the same world in IPv6, or nil.
	mirror *world
}

const (
	tag      = 1 << 28
	verified = 1 << 29
)

func compileWorld(t *testing.T, s xfrm.Snapshot, config firewall.Config) world {
	t.Helper()
	return compileInput(t, s, firewall.Input{Config: config})
}

// compileInput compiles a snapshot with more that the input has.
func compileInput(t *testing.T, s xfrm.Snapshot, in firewall.Input) world {
	t.Helper()
	config := in.Config
	if config.Marks == (firewall.Marks{}) {
		config.Marks = firewall.DefaultMarks()
	}
	w := world{snapshot: s, config: config, t: t}
	in.Set, in.Host, in.Config = xfrm.Tunnels(s), s.Host, config
	w.eval = compileAll(t, in, &w.result)
	w.mirror = mirrorOf(t, s, in)
	return w
}

// compileAll compiles the rules of both families, and returns the evaluators that trace
// packets through them.
func compileAll(t *testing.T, in firewall.Input, result *Result) map[xfrm.Family]trace.Evaluator {
	t.Helper()
	eval := make(map[xfrm.Family]trace.Evaluator)
	*result = Compile(in)
	for _, rs := range result.Rulesets {
		if err := rules.Validate(rs); err != nil {
			t.Fatalf("compiled rules are not valid: %v", err)
		}
		eval[rs.Family] = trace.NewEvaluator(mutate(t, rs))
	}
	return eval
}

// passage is the result for a packet: its mark, its verdict and the steps to it.
type passage struct {
	mark  uint32
	final rules.Verb // Accept, Drop, Reject, or Return: left to the rest of the firewall
	steps []trace.Step
}

// met reports whether a rule of that purpose matched, for that tunnel if one is named.
func (p passage) met(purpose rules.Purpose) bool {
	_, ok := trace.Last(p.steps, purpose)
	return ok
}

// arrive sends a packet through PREROUTING and then INPUT or FORWARD, as its
// DstLocal says. between, if not nil, stands for other programs' rules that run
// after our PREROUTING.
func (w world) arrive(p trace.Packet, between func(*trace.Packet)) passage {
	got := w.in(p, between)
	w.reflects(p, got, func(mirror world, twin trace.Packet) passage {
		if between == nil {
			return mirror.in(twin, nil)
		}
		return mirror.in(twin, func(p *trace.Packet) {
			there := unmirrorPacket(*p)
			between(&there)
			*p = mirrorPacket(there)
		})
	})
	return got
}

func (w world) in(p trace.Packet, between func(*trace.Packet)) passage {
	e := w.eval[p.Family()]
	var out passage
	step := func(table rules.Table, hook string) bool {
		var steps []trace.Step
		p, out.final, steps = e.Trace(table, hook, p)
		out.steps = append(out.steps, steps...)
		return out.final == rules.Return
	}
	if !step(rules.Mangle, "PREROUTING") {
		return out
	}
	if between != nil {
		between(&p)
	}
	hook := "FORWARD"
	if p.DstLocal {
		hook = "INPUT"
	}
	_ = step(rules.Mangle, hook) && step(rules.Filter, hook)
	out.mark = p.Mark
	return out
}

// send sends a packet of the gateway's own through OUTPUT and POSTROUTING.
func (w world) send(p trace.Packet) passage { return w.leave(p, "OUTPUT") }

// forward sends a packet that was let into FORWARD on through POSTROUTING.
func (w world) forward(p trace.Packet) passage { return w.leave(p, "FORWARD") }

// last asks mangle alone as a packet leaves, whatever filter says.
func (w world) last(p trace.Packet) passage {
	trace := func(w world, p trace.Packet) passage {
		var out passage
		p, out.final, out.steps = w.eval[p.Family()].Trace(rules.Mangle, "POSTROUTING", p)
		out.mark = p.Mark
		return out
	}
	got := trace(w, p)
	w.reflects(p, got, trace)
	return got
}

func (w world) leave(p trace.Packet, hook string) passage {
	got := w.out(p, hook)
	w.reflects(p, got, func(mirror world, twin trace.Packet) passage { return mirror.out(twin, hook) })
	return got
}

func (w world) out(p trace.Packet, hook string) passage {
	e := w.eval[p.Family()]
	var out passage
	for _, at := range []struct {
		table rules.Table
		hook  string
	}{{rules.Mangle, hook}, {rules.Filter, hook}, {rules.Mangle, "POSTROUTING"}, {rules.NAT, "POSTROUTING"}} {
		var steps []trace.Step
		var v rules.Verb
		p, v, steps = e.Trace(at.table, at.hook, p)
		out.steps = append(out.steps, steps...)
		if at.table == rules.Filter {
			out.final = v
		}
		if v == rules.Drop || v == rules.Reject {
			out.final = v
			break
		}
	}
	out.mark = p.Mark
	return out
}

// The gateway of most tests: sun, with moon at the other end.
const (
	sunWAN, moonWAN   = "192.0.2.2", "192.0.2.1"
	sunLAN, moonLAN   = "10.2.0.0/24", "10.1.0.0/24"
	sun6WAN, moon6WAN = "2001:db8:ffff::2", "2001:db8:ffff::1"
	sun6LAN, moon6LAN = "fd00:2::/64", "fd00:1::/64"
)

func sunHost() xfrm.Host {
	return xfrm.Host{
		Links: []xfrm.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "eth0", Up: true}, {Index: 3, Name: "eth1", Up: true}},
		Addresses: []xfrm.Address{
			{Link: 2, Prefix: netip.MustParsePrefix(sunWAN + "/24")}, {Link: 3, Prefix: netip.MustParsePrefix("10.2.0.1/24")},
			{Link: 2, Prefix: netip.MustParsePrefix(sun6WAN + "/64")}, {Link: 3, Prefix: netip.MustParsePrefix("fd00:2::1/64")},
		},
		Routes: []xfrm.Route{
			{Dst: netip.MustParsePrefix("192.0.2.0/24"), Link: 2, Connected: true},
			{Dst: netip.MustParsePrefix("10.2.0.0/24"), Link: 3, Connected: true},
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: 2, Via: addr("192.0.2.254")},
		},
	}
}

func sunSite() sample.Site {
	return sample.Site{Reqid: 1, Local: sunWAN, Remote: moonWAN, Pairs: [][2]string{{sunLAN, moonLAN}}}
}

func snapshotOf(host xfrm.Host, sites ...sample.Site) xfrm.Snapshot {
	return sample.Snapshot(host, sites...)
}

// from returns a decrypted packet of the tunnel with that reqid.
func from(reqid uint32, src, dst string) trace.Packet {
	return trace.Packet{
		Src: addr(src), Dst: addr(dst), In: "eth0", Proto: xfrm.TCP, SPort: 1024, DPort: 80,
		SecPath: []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid, Src: addr(moonWAN), Dst: addr(sunWAN)}},
	}
}

// tagged is a decrypted packet with an outer packet that netfilter saw.
func tagged(p trace.Packet) trace.Packet {
	p.Mark |= tag
	return p
}

func clear4(src, dst string) trace.Packet {
	return trace.Packet{Src: addr(src), Dst: addr(dst), In: "eth0", Proto: xfrm.TCP, SPort: 1024, DPort: 80}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
