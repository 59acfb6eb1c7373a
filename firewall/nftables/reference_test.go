package nftables

import (
	"net/netip"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

const (
	tag      = 1 << 28
	verified = 1 << 29
)

func num(k sets.FieldKind, n uint64) sets.Match { return sets.EqualsNumber(k, n) }
func prefix(k sets.FieldKind, p string) sets.Match {
	net := netip.MustParsePrefix(p)
	return sets.Match{Field: sets.F(k).Masked(net.Bits()), Value: sets.Addr(net.Addr())}
}
func jump(c string) sets.Term       { return sets.Verdict{Do: sets.Jump, Chain: c} }
func toChain(c string) sets.Term    { return sets.Verdict{Do: sets.Goto, Chain: c} }
func setBits(b uint32) sets.Term    { return sets.SetMark{Value: b, Mask: b} }
func clearBits(b uint32) sets.Term  { return sets.SetMark{Mask: b} }
func has(b uint64) sets.Match       { return sets.AllBits(sets.Mark, b) }
func rule(t ...sets.Term) sets.Rule { return sets.Rule{Terms: t} }

func oneOf(k sets.FieldKind, numbers ...uint64) sets.Term {
	o := sets.OneOf{Field: sets.F(k)}
	for _, n := range numbers {
		o.Values = append(o.Values, sets.Number(o.Field.Type(), n))
	}
	return o
}

var (
	back    = sets.Verdict{Do: sets.Return}
	related = sets.AnyBit(sets.CtState, sets.Related)
)

// family has the fields of one family of addresses.
type family struct {
	suffix                                             string
	src, dst, proto, outer, origSrc, origDst, replySrc sets.FieldKind
	number                                             uint64
}

var (
	v4 = family{"4", sets.Src4, sets.Dst4, sets.Proto4, sets.InOuterSrc4, sets.CtOrigSrc4, sets.CtOrigDst4, sets.CtReplySrc4, uint64(xfrm.IPv4)}
	v6 = family{"6", sets.Src6, sets.Dst6, sets.L4Proto, sets.InOuterSrc6, sets.CtOrigSrc6, sets.CtOrigDst6, sets.CtReplySrc6, uint64(xfrm.IPv6)}
)

func fields(kinds ...sets.FieldKind) []sets.Field {
	out := make([]sets.Field, len(kinds))
	for i, k := range kinds {
		out[i] = sets.F(k)
	}
	return out
}

// claim looks a packet up in the claims of pairs of /24 networks.
func claim(depth uint8, src, dst sets.FieldKind) sets.Term {
	return sets.In{Fields: []sets.Field{sets.F(sets.InReqid).At(depth), sets.F(src).Masked(24), sets.F(dst).Masked(24)}, Set: "c4_24_24"}
}

// guard looks a packet up in the guards of pairs of /24 networks.
func guard(remote, local sets.FieldKind) sets.Term {
	return sets.In{Fields: []sets.Field{sets.F(remote).Masked(24), sets.F(local).Masked(24)}, Set: "g4_0_24_24"}
}

// referenceTable is the rule set of the prototype that was tried with real ESP, as
// values. It has every kind of term that the engine is made of.
func referenceTable() sets.Table {
	t := sets.Table{Name: testTable}
	chain := func(name string, rules ...sets.Rule) {
		t.Chains = append(t.Chains, sets.Chain{Name: name, Rules: rules})
	}
	base := func(name string, b sets.Base, rules ...sets.Rule) {
		t.Chains = append(t.Chains, sets.Chain{Name: name, Base: b, Rules: rules})
	}
	set := func(s sets.Set, key ...sets.FieldKind) {
		s.Key = fields(key...)
		t.Sets = append(t.Sets, s)
	}
	set(sets.Set{Name: "known"}, sets.InReqid)
	set(sets.Set{Name: "untagged", Size: 65535, Dynamic: true, Counter: true}, sets.InReqid)
	set(sets.Set{Name: "c4_24_24", Counter: true}, sets.InReqid, sets.Src4, sets.Dst4)
	set(sets.Set{Name: "rem4_24"}, sets.Src4)
	set(sets.Set{Name: "g4_0_24_24", Counter: true}, sets.Src4, sets.Dst4)
	for _, f := range []family{v4, v6} {
		set(sets.Set{Name: "cp" + f.suffix, Interval: true, Counter: true}, sets.InReqid, f.src, f.dst, f.proto, sets.SrcPort, sets.DstPort)
		set(sets.Set{Name: "cs" + f.suffix, Interval: true, Counter: true}, sets.InReqid, f.outer, f.src, f.dst)
		set(sets.Set{Name: "lan" + f.suffix, Interval: true}, sets.InName, f.src)
		set(sets.Set{Name: "carrier" + f.suffix}, sets.InReqid, f.src, f.dst, sets.L4Proto)
		set(sets.Set{Name: "carried" + f.suffix}, f.src, f.dst, sets.L4Proto)
	}
	for _, name := range []string{"spoof", "inject", "crossed", "leak"} {
		chain("drop_"+name,
			rule(sets.Limit{Rate: 5, Per: time.Second, Burst: 5}, sets.Log{Prefix: "xfrmfw:" + name + ":"}),
			rule(sets.Counter{}, sets.Verdict{Do: sets.Drop}))
	}
	chain("drop_refuse", rule(sets.Counter{}, sets.Reject{With: sets.AdminProhibited}))
	chain("stray", rule(sets.Counter{}, clearBits(tag|verified)))
	chain("unverify", rule(sets.Counter{}, clearBits(verified)))
	chain("tag_", rule(sets.Counter{}, setBits(tag)))
	chain("again",
		rule(sets.In{Fields: fields(sets.InReqid), Set: "known"}, setBits(verified), back),
		rule(sets.In{Fields: []sets.Field{sets.F(sets.InReqid).At(1)}, Set: "known"}, setBits(verified), back))
	referenceVerdicts(chain, v4)
	referenceVerdicts(chain, v6)
	referenceGuards(chain)
	referenceHooks(base)
	t.Sort()
	return t
}

// referenceVerdicts are the chains for decrypted packets.
func referenceVerdicts(chain func(string, ...sets.Rule), f family) {
	carrier := rule(sets.In{Fields: fields(sets.InReqid, f.src, f.dst, sets.L4Proto), Set: "carrier" + f.suffix}, setBits(verified), back)
	carried := rule(sets.In{Fields: fields(f.src, f.dst, sets.L4Proto), Set: "carried" + f.suffix}, toChain("drop_crossed"))
	sel, rel := []sets.Rule{carrier, carried}, []sets.Rule(nil)
	icmp := oneOf(sets.ICMPv6Type, 1, 2, 3, 4)
	if f == v4 {
		icmp = oneOf(sets.ICMPType, 3, 4, 5, 11, 12)
		sel = append(sel, rule(claim(0, f.src, f.dst), setBits(verified), back), rule(claim(1, f.src, f.dst), setBits(verified), back))
		for _, src := range []sets.FieldKind{f.origSrc, f.replySrc} {
			rel = append(rel, rule(claim(0, src, f.dst), setBits(verified)), rule(claim(1, src, f.dst), setBits(verified)))
		}
	}
	chain("sel"+f.suffix, sel...)
	chain("owner" + f.suffix)
	chain("untagged"+f.suffix, rule(sets.Update{Fields: fields(sets.InReqid), Set: "untagged"}))
	chain("related"+f.suffix, append(rel, rule(has(verified), toChain("owner"+f.suffix)))...)
	pol := []sets.Rule{
		rule(clearBits(verified)),
		rule(jump("sel" + f.suffix)),
		rule(has(tag|verified), back),
		rule(has(verified), toChain("untagged"+f.suffix)),
		rule(icmp, related, jump("related"+f.suffix)),
		rule(has(verified), back),
	}
	for depth := range uint8(4) {
		pol = append(pol, rule(sets.In{Fields: []sets.Field{sets.F(sets.InReqid).At(depth)}, Set: "known"}, toChain("drop_crossed")))
	}
	chain("pol"+f.suffix, append(pol,
		rule(setBits(verified)),
		rule(jump("owner"+f.suffix)),
		rule(sets.NoBit(sets.Mark, verified), toChain("drop_crossed")),
		rule(sets.Counter{}, clearBits(verified)))...)
}

// referenceGuards are the chains for packets in clear.
func referenceGuards(chain func(string, ...sets.Rule)) {
	lan := func(name, addr sets.FieldKind) sets.Rule {
		return rule(sets.In{Fields: fields(name, addr), Set: "lan4"}, back)
	}
	local := num(sets.FibDstType, sets.Local)
	localSource := num(sets.FibSrcType, sets.Local)
	unspecified, linkLocal := rule(prefix(sets.Src4, "0.0.0.0/32"), back), rule(prefix(sets.Src4, "169.254.0.0/16"), back)
	chain("hit_inject4", unspecified, linkLocal, rule(toChain("drop_inject")))
	chain("inject4", rule(guard(sets.Dst4, sets.Src4), sets.Missing(sets.FibSrcInput), toChain("hit_inject4")))
	chain("hit_spoof4",
		rule(prefix(sets.Dst4, "224.0.0.0/4"), back),
		rule(prefix(sets.Dst4, "255.255.255.255/32"), back),
		rule(prefix(sets.Dst4, "169.254.0.0/16"), back),
		rule(num(sets.L4Proto, 50), local, back),
		rule(num(sets.L4Proto, 51), local, back),
		rule(oneOf(sets.UDPDst, 500, 4500), local, back),
		rule(num(sets.UDPSrc, 67), num(sets.UDPDst, 68), back),
		lan(sets.InName, sets.Src4),
		rule(toChain("drop_spoof")))
	chain("spoof4", rule(guard(sets.Src4, sets.Dst4), toChain("hit_spoof4")))
	chain("quoted4",
		rule(local, oneOf(sets.CtProto, 50, 51), back),
		lan(sets.InName, sets.CtOrigSrc4),
		lan(sets.InName, sets.CtReplySrc4),
		rule(guard(sets.CtOrigSrc4, sets.Dst4), toChain("drop_spoof")),
		rule(guard(sets.CtReplySrc4, sets.Dst4), toChain("drop_spoof")))
	for hit, drop := range map[string]string{"hit_leak4": "drop_leak", "hit_refuse4": "drop_refuse"} {
		chain(hit,
			rule(num(sets.OutIndex, 1), back), unspecified, linkLocal,
			rule(num(sets.L4Proto, 50), localSource, back),
			rule(num(sets.L4Proto, 51), localSource, back),
			rule(oneOf(sets.UDPSrc, 500, 4500), localSource, back),
			rule(num(sets.UDPSrc, 68), num(sets.UDPDst, 67), localSource, back),
			lan(sets.OutName, sets.Dst4),
			rule(toChain(drop)))
	}
	chain("nated4",
		rule(guard(sets.Dst4, sets.CtOrigSrc4), num(sets.CtDirection, 0), toChain("hit_leak4")),
		rule(guard(sets.Dst4, sets.CtReplySrc4), num(sets.CtDirection, 1), toChain("hit_leak4")))
	chain("error4",
		rule(sets.Match{Field: sets.F(sets.CtState), Op: sets.Neq, Value: sets.Number(sets.TypeCtState, sets.Related)},
			sets.In{Fields: []sets.Field{sets.F(sets.Dst4).Masked(24)}, Set: "rem4_24"}, toChain("hit_leak4")),
		rule(guard(sets.Dst4, sets.CtOrigSrc4), toChain("hit_leak4")),
		rule(guard(sets.Dst4, sets.CtOrigDst4), toChain("hit_leak4")),
		rule(guard(sets.Dst4, sets.CtReplySrc4), toChain("hit_leak4")))
	errors := oneOf(sets.ICMPType, 3, 4, 5, 11, 12)
	chain("leaving4",
		rule(errors, jump("error4")),
		rule(sets.AnyBit(sets.CtStatus, sets.SNATed|sets.DNATed), jump("nated4")),
		rule(guard(sets.Dst4, sets.Src4), toChain("hit_leak4")))
	chain("refuse4", rule(guard(sets.Dst4, sets.Src4), toChain("hit_refuse4")))
	chain("clear4", rule(errors, related, jump("quoted4")), rule(prefix(sets.Dst4, "10.1.0.0/24"), toChain("inject4")))
	chain("came4", rule(prefix(sets.Src4, "10.1.0.0/24"), toChain("spoof4")))
	chain("passing4",
		rule(prefix(sets.Src4, "10.1.0.0/24"), jump("spoof4")),
		rule(prefix(sets.Dst4, "10.1.0.0/24"), sets.Missing(sets.RouteIPsec), toChain("refuse4")))
	chain("going4", rule(prefix(sets.Dst4, "10.1.0.0/24"), toChain("leaving4")))
}

// referenceHooks are the base chains.
func referenceHooks(base func(string, sets.Base, ...sets.Rule)) {
	ipv4, ipv6 := num(sets.NFProto, 2), num(sets.NFProto, 10)
	decrypted, clear := sets.Exists(sets.SecPath), sets.Missing(sets.SecPath)
	loopback := rule(num(sets.InIndex, 1), back)
	base("pre", sets.Base{Type: sets.Filter, Hook: sets.Prerouting, Priority: -160},
		loopback,
		rule(decrypted, ipv4, toChain("pol4")),
		rule(decrypted, ipv6, toChain("pol6")),
		rule(sets.AnyBit(sets.Mark, tag|verified), jump("stray")),
		rule(ipv4, toChain("clear4")))
	base("input_", sets.Base{Type: sets.Filter, Hook: sets.Input, Priority: -5},
		loopback,
		rule(decrypted, toChain("again")),
		rule(num(sets.L4Proto, 50), jump("tag_")),
		rule(num(sets.L4Proto, 51), jump("tag_")),
		rule(num(sets.UDPDst, 4500), num(sets.FibDstType, sets.Local), jump("tag_")),
		rule(has(verified), clear, jump("unverify")),
		rule(ipv4, toChain("came4")))
	base("forward_", sets.Base{Type: sets.Filter, Hook: sets.Forward, Priority: -5},
		rule(decrypted, jump("again")),
		rule(has(verified), clear, jump("unverify")),
		rule(sets.Exists(sets.RouteIPsec), clear, sets.AnyBit(sets.CtStatus, sets.DNATed), num(sets.CtDirection, 0),
			sets.Missing(sets.FibSrcInput), toChain("drop_inject")),
		rule(decrypted, back),
		rule(ipv4, toChain("passing4")))
	base("post", sets.Base{Type: sets.Filter, Hook: sets.Postrouting, Priority: 150},
		rule(sets.Exists(sets.RouteIPsec), back),
		rule(ipv4, toChain("going4")))
	base("nat", sets.Base{Type: sets.NAT, Hook: sets.Postrouting, Priority: -190},
		rule(ipv4, sets.Exists(sets.RouteIPsec), sets.SNAT{To: sets.F(sets.Src4)}),
		rule(ipv6, sets.Exists(sets.RouteIPsec), sets.SNAT{To: sets.F(sets.Src6)}))
}
