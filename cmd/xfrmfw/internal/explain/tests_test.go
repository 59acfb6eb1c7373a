package explain

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove"
	"github.com/xfrmfw/xfrmfw/firewall/prove/expect"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The tests of the configuration, which ask sets of packets, hold for a packet with the
// verdict that explain gives it, which follows the one packet, and for no other verdict. The
// kernel's check of what it decrypted is beyond the tests.
func TestTestsAgreeWithExplain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 20))
	asked, refused := make(map[string]int), 0
	for range 4 {
		s := sun()
		s.Host.Routes = append(s.Host.Routes, xfrm.Route{Dst: pfx("0.0.0.0/0"), Link: 2, Table: 254, Via: ip("192.0.2.1")})
		config := firewall.Config{}
		if r.IntN(2) == 0 {
			config.WAN, config.Lockdown = []string{"wan0"}, &firewall.Lockdown{Services: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Ports{Lo: 22, Hi: 22}}}}
		}
		config.Enforce = r.IntN(3) == 0
		if r.IntN(2) == 0 {
			config.Tunnels = []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 11}, Out: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Ports{Lo: 22, Hi: 22}}}}}
		}
		w := world(s, config)
		var right, wrong []expect.Test
		for range 150 {
			q := randomQuery(r)
			e, err := w.Explain(q)
			if err != nil {
				continue // no such packet
			}
			if e.Packet.In == "lo" || e.Packet.Out == "lo" || e.Packet.In != "" && local(s.Host, q.Src) {
				continue // tests are about packets of a network, and the kernel takes none from itself
			}
			if e.Verdict.By == Kernel && !outbound(e) {
				refused++
				continue
			}
			want := verdictOf(e)
			asked[want.Action]++
			right = append(right, testOf(e, q, want))
			for _, action := range []string{"accept", "drop", "leave"} {
				if want.Action != action && (want.Action != "reject" || action != "drop") {
					wrong = append(wrong, testOf(e, q, expect.Verdict{Action: action}))
				}
			}
		}
		run := func(tests []expect.Test, table sets.Table) []prove.Outcome {
			return prove.RunTests(tests, &w.Result.Facts, w.Result.Rulesets, table, s, w.Set)
		}
		for _, table := range []sets.Table{{}, program.Table(&w.Result.Facts, program.Options{})} {
			for _, o := range run(right, table) {
				if !o.Held {
					t.Errorf("%s\nexplain: %s, tests: %s, packet %+v, with a table: %v", o.Test.Name, o.Test.Expect, o.Got, o.Packet, len(table.Chains) > 0)
				}
			}
		}
		for _, o := range run(wrong, sets.Table{}) {
			if o.Held {
				t.Errorf("%s\na test that expects %s holds", o.Test.Name, o.Test.Expect)
			}
		}
	}
	t.Logf("packets by verdict: %v; %d that the kernel drops on arrival are left out", asked, refused)
	for _, action := range []string{"accept", "drop", "reject", "leave"} {
		if asked[action] == 0 {
			t.Errorf("no packet was to %s", action)
		}
	}
}

func randomQuery(r *rand.Rand) Query {
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	addresses := []string{"10.1.0.9", "10.1.0.70", "10.1.0.200", "10.2.0.1", "10.2.0.9", "10.7.0.9", "10.9.0.9", "192.0.2.2", "192.0.2.1", "198.51.100.7"}
	q := Query{Src: ip(one(addresses...)), Dst: ip(one(addresses...)), Proto: xfrm.TCP, SPort: clientPort, DPort: uint16(22 + r.IntN(2)), Ct: CtNew}
	switch r.IntN(4) {
	case 0:
		q.Proto, q.DPort = xfrm.UDP, 500
	case 1:
		q.Proto, q.SPort, q.DPort, q.ICMPType = xfrm.ICMP, 0, 0, 8
	}
	if r.IntN(2) == 0 {
		q.In = one("wan0", "lan0")
	}
	if r.IntN(3) == 0 {
		q.Reqid, q.HasReqid = uint32(11+r.IntN(4)), true
		q.Tag = r.IntN(4) > 0
	}
	if r.IntN(4) == 0 {
		q.Ct = CtEstablished
	}
	return q
}

func testOf(e Explanation, q Query, want expect.Verdict) expect.Test {
	single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	t := expect.Test{
		Name: e.Packet.String(), In: q.In, Out: q.Out, Src: single(q.Src), Dst: single(q.Dst), Proto: q.Proto, Reqid: q.Reqid, HasReqid: q.HasReqid, Tag: q.Tag,
		Established: q.Ct == CtEstablished, Expect: want,
	}
	if q.Proto == xfrm.ICMP {
		t.ICMP = rules.ICMPMatch{Set: true, Type: q.ICMPType}
	} else {
		t.SPorts, t.DPorts = firewall.Ports{Lo: q.SPort, Hi: q.SPort}, firewall.Ports{Lo: q.DPort, Hi: q.DPort}
	}
	return t
}

// verdictOf is the verdict in the words of a test, with its case where tests know it.
func verdictOf(e Explanation) expect.Verdict {
	v := expect.Verdict{Action: string(e.Verdict.Action)}
	if e.Verdict.Action == Returned {
		v.Action = "leave"
	}
	if e.Verdict.By == Kernel {
		return v
	}
	if with, err := expect.Parse(strings.TrimSpace(v.Action + " " + e.Verdict.Case)); err == nil {
		return with
	}
	return v
}

// outbound reports whether the kernel drops a packet on its way out.
func outbound(e Explanation) bool {
	for _, p := range e.Policies {
		if p.Dir != "out" && strings.Contains(p.Effect, "drops") {
			return false
		}
	}
	return true
}
