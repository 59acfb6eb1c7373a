package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Schema is the version of the JSON form. Keys may be added to it, never changed
// or removed.
const Schema = 1

// Explanation is the fate of a packet, in the shape of its JSON form. Lists
// are never nil.
type Explanation struct {
	Schema int    `json:"schema"`
	Packet Packet `json:"packet"`
	// Policies are those that the kernel looks up, in the order in which it does.
	Policies []Policy `json:"policies"`
	// Tunnel is the one that the packet came out of or goes into, or that of the rule
	// that decides; nil for none.
	Tunnel *Tunnel `json:"tunnel"`
	// Steps are the rules that the packet meets and that match, in order.
	Steps   []Step  `json:"steps"`
	Verdict Verdict `json:"verdict"`
	// Fault is a sentence about the rules if they give another verdict than the
	// specification, firewall.Judge; empty if they agree.
	Fault string `json:"fault"`
	// InSync is true if Steps and Verdict are about the live rules, nil with a snapshot.
	InSync *bool `json:"in_sync"`
	// Live is the verdict of the rules as they stand, where these differ; nil
	// otherwise. LiveSteps are the wanted rules of them that the packet meets,
	// OddRules those in chains on its way that are not wanted and can't be judged.
	Live      *Verdict `json:"live"`
	LiveSteps []Step   `json:"live_steps"`
	OddRules  []string `json:"odd_rules"`
	Warnings  []string `json:"warnings"`

	marks firewall.Marks
}

// Packet is the packet as it was judged.
type Packet struct {
	Src      string `json:"src"`
	Dst      string `json:"dst"`
	Proto    string `json:"proto"`
	SPort    uint16 `json:"sport"`
	DPort    uint16 `json:"dport"`
	ICMPType uint8  `json:"icmp_type"`
	ICMPCode uint8  `json:"icmp_code"`
	// Way is "input", "forward" or "output".
	Way  string `json:"way"`
	In   string `json:"in"`
	Out  string `json:"out"`
	Mark uint32 `json:"mark"`
	// Reqid is that of the state that it came out of, nil for cleartext.
	Reqid *uint32 `json:"reqid"`
	// Ct is "new", "established" or "related".
	Ct string `json:"ctstate"`
	// Assumed lists the parts that were not given.
	Assumed []string `json:"assumed"`
}

// Tunnel names a tunnel.
type Tunnel struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	State string `json:"state"`
	Reqid uint32 `json:"reqid"`
}

// Step is a rule that matched.
type Step struct {
	Hook    string        `json:"hook"`
	Table   rules.Table   `json:"table"`
	Chain   string        `json:"chain"`
	Place   int           `json:"place"` // in its chain, from 1
	ID      string        `json:"id"`
	Purpose rules.Purpose `json:"purpose"`
	Tunnel  string        `json:"tunnel"`
	Rule    string        `json:"rule"`
	// Unreached is true if the kernel dropped the packet before.
	Unreached bool `json:"unreached"`
}

// Action is the end of a packet.
type Action string

// The actions. The rest of the firewall decides on a Returned packet.
const (
	Accepted Action = "accept"
	Dropped  Action = "drop"
	Rejected Action = "reject"
	Returned Action = "return"
)

// By is the part of the host that decides.
type By string

// The deciders: our rules, the kernel by its policies, or the rest of the firewall.
const (
	Ours   By = "xfrmfw"
	Kernel By = "kernel"
	Rest   By = "rest"
)

// Verdict is how it ends.
type Verdict struct {
	Action Action `json:"action"`
	By     By     `json:"by"`
	// Case is the number of the verdict in xfrmfw(7), empty if it has none, such as
	// IKE; Name is the purpose of the rule that decided, empty for case 9.
	Case string        `json:"case"`
	Name rules.Purpose `json:"name"`
	// Rule is the ID of that rule.
	Rule string `json:"rule"`
	// Counter is the kernel's counter of a packet that it drops.
	Counter string `json:"counter"`
	Text    string `json:"text"`
}

// Explain returns the fate of a packet. Its errors are mistakes in the query.
func (w World) Explain(q Query) (Explanation, error) {
	p, err := w.place(q)
	if err != nil {
		return Explanation{}, err
	}
	family := p.packet.Family()
	i := slices.IndexFunc(w.Result.Rulesets, func(rs rules.Ruleset) bool { return rs.Family == family })
	if i < 0 {
		return Explanation{}, fmt.Errorf("there are no rules for %s on this host", family)
	}
	k := w.walk(w.Result.Rulesets[i], p)
	e := Explanation{
		Schema: Schema, Packet: packetOf(q, p), Policies: list(k.policies), Steps: list(k.steps),
		LiveSteps: []Step{}, OddRules: []string{}, Warnings: list(w.Warnings), marks: w.Marks,
	}
	e.Tunnel = w.tunnel(k, q)
	judged, fault, warning := w.settle(k, p)
	e.Verdict, e.Fault = w.verdict(k, p, judged), fault
	if warning != "" {
		e.Warnings = append(e.Warnings, warning)
	}
	if w.Live == nil {
		return e, nil
	}
	inSync := true
	for _, d := range w.Differences {
		inSync = inSync && d.Family != family
	}
	e.InSync = &inSync
	if !inSync {
		standing := live.Match(w.Result.Rulesets[i], w.Live[family])
		live := w.walk(standing.Ruleset, p)
		found := live.result()
		if agree(found, judged) {
			found = judged
		}
		v := w.verdict(live, p, found)
		e.Live, e.LiveSteps = &v, list(live.steps)
		for _, odd := range standing.Unexpected {
			if slices.Contains(live.entered, place{odd.Table, odd.Chain}) {
				e.OddRules = append(e.OddRules, fmt.Sprintf("%s: -A %s %s", odd.Table, odd.Chain, odd.Text))
			}
		}
	}
	return e, nil
}

func list[T any](s []T) []T { return append([]T{}, s...) }

func packetOf(q Query, p passage) Packet {
	pk := p.packet
	out := Packet{
		Src: pk.Src.String(), Dst: pk.Dst.String(), Proto: pk.Proto.String(), SPort: pk.SPort, DPort: pk.DPort,
		ICMPType: pk.ICMPType, ICMPCode: pk.ICMPCode, Way: string(p.way), In: pk.In, Out: pk.Out, Mark: pk.Mark,
		Ct: cmp.Or(q.Ct, CtNew), Assumed: list(p.assumed),
	}
	if q.HasReqid {
		out.Reqid = &q.Reqid
	}
	return out
}

// tunnel is the packet's tunnel: that of the rule that decided, of the policy that
// claims it, or of the SA that it came out of.
func (w World) tunnel(k walker, q Query) *Tunnel {
	_, decided := trace.CaseOf(k.trace)
	id := decided.Rule.Tunnel
	if id == "" {
		// A drop is shared by all tunnels; the guard's rule before it is one's own.
		for _, s := range k.trace {
			switch s.Rule.Purpose {
			case rules.PurposeSpoofGuard, rules.PurposeInjectGuard, rules.PurposeLeakGuard:
				id = cmp.Or(s.Rule.Tunnel, w.guarding(s.Rule, k.packet), id)
			}
		}
	}
	if i, ok := w.tunnelOf(q.Reqid, k.packet); id == "" && q.HasReqid && ok {
		id = w.Set.Tunnels[i].ID
	}
	for _, p := range k.policies {
		id = cmp.Or(id, p.Tunnel)
	}
	for i, t := range w.Set.Tunnels {
		if t.ID == id || id == "" && (w.uses(i, k.packet.In) || w.uses(i, k.packet.Out) || carries(t, k.packet)) {
			return w.named(i)
		}
	}
	if id == "" {
		return nil
	}
	return &Tunnel{ID: id, State: "remembered"}
}

// guarding is the tunnel of the guard that a packet met, where neighbours have one
// rule for several.
func (w World) guarding(r rules.Rule, p trace.Packet) string {
	for _, at := range []struct {
		rule, local netip.Prefix
		addr        netip.Addr
	}{{r.Ct.OrigSrc, r.Dst, p.Ct.OrigSrc}, {r.Ct.ReplSrc, r.Dst, p.Ct.ReplSrc}, {r.Src, r.Dst, p.Src}, {r.Dst, r.Src, p.Dst}} {
		for _, g := range w.Result.Guards {
			if !g.Exception && within(g.Remote, at.rule) && g.Remote.Contains(at.addr) && (at.local.Bits() <= 0 || at.local == g.Local) {
				return g.Tunnel
			}
		}
	}
	return ""
}

func within(p, whole netip.Prefix) bool { return p.Bits() >= whole.Bits() && whole.Contains(p.Addr()) }

// uses reports whether a device carries nothing but a tunnel's traffic.
func (w World) uses(i int, device string) bool {
	return device != "" && i < len(w.Result.Tunnels) && slices.Contains(w.Result.Tunnels[i].Devices, device)
}

// carries reports whether a packet is one of a tunnel's outer ones.
func carries(t xfrm.Tunnel, p trace.Packet) bool {
	return ipsec(p) && (t.Remote == p.Src && t.Local == p.Dst || t.Local == p.Src && t.Remote == p.Dst)
}

// ipsec reports whether a packet is one of IPsec's own: ESP, AH or, on their
// usual ports, IKE and ESP in UDP.
func ipsec(p trace.Packet) bool {
	return p.Proto == xfrm.ESP || p.Proto == xfrm.AH ||
		p.Proto == xfrm.UDP && (p.SPort == 500 || p.SPort == 4500 || p.DPort == 500 || p.DPort == 4500)
}

func (w World) named(i int) *Tunnel {
	t := w.Set.Tunnels[i]
	out := &Tunnel{ID: t.ID, State: "down", Reqid: t.Reqid}
	if t.Up() {
		out.State = "up"
	}
	if i < len(w.Result.Tunnels) {
		out.Name = w.Result.Tunnels[i].Name
	}
	return out
}

// verdict is the end of a packet: by the kernel, if it drops the packet first, else
// as judged. The rule is the one that decided on the walk.
func (w World) verdict(k walker, p passage, judged firewall.Verdict) Verdict {
	v := Verdict{Action: k.action, By: k.by, Counter: k.counter, Case: judged.Case.String()}
	if k.by != Kernel {
		v.Action, v.By = actions[judged.Action], Ours
		if v.Action == Returned {
			v.By = Rest
		}
	}
	_, decided := trace.CaseOf(k.trace)
	if k.by != Kernel && v.Action == Dropped && k.byRules == Returned {
		v.Name = rules.PurposeLeak
		v.Text = "case 8d (leak): " + reason(v.Name, v.Case) + "; dropped in table inet xfrmfw, behind all NAT"
		return v
	}
	if v.Name = decided.Rule.Purpose; v.Name != "" {
		v.Rule = rules.ID(k.family, decided.Table, decided.Chain, decided.Rule)
	}
	v.Text = v.words(k, p, w.Live[k.family], w.Live != nil)
	return v
}
