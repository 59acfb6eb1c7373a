package prove

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/firewall/nftables"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The kernel treats a packet of each path through the rules of random gateways as the
// model says: each rule of iptables counts it or not, and a table of nftables drops it,
// marks it as verified or lets it pass. Packets come in clear by each link, out of an SA, or
// from the gateway. They are of new flows, or of those that conntrack is told of before:
// established, expected, with and without NAT, in either direction, and ICMP errors about
// them. XFRMFW_PATHS is the number of gateways, from the seed XFRMFW_SEED on.
func TestKernelIsTheModel(t *testing.T) {
	if os.Getenv("XFRMFW_PATHS") == "" {
		return // scripts/soak paths sets it
	}
	worlds, err := strconv.ParseUint(os.Getenv("XFRMFW_PATHS"), 10, 32)
	if err != nil {
		t.Fatalf("XFRMFW_PATHS: %v", err)
	}
	first, _ := strconv.ParseUint(os.Getenv("XFRMFW_SEED"), 10, 64)
	lab.Require(t)
	esp := kernelHasESP(t)
	var total kernelCounts
	for seed := first; seed < first+worlds; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := newKernelWorld(t, rand.New(rand.NewPCG(seed, 20)), esp)
			c := &kernelRun{T: t, kernelWorld: w}
			c.open()
			c.rules(compile.Rulesets(w.facts))
			if nft, err := c.table(program.Table(&w.facts, program.Options{})); !nft {
				t.Logf("no table of nftables: %v", err)
			}
			t.Logf("paths: %d policies, %d tunnels, %d of them up: %s", len(w.snapshot.Policies), len(w.in.Set.Tunnels), len(w.inbound), c.kernelCounts)
			total.add(c.kernelCounts)
		})
	}
	t.Logf("paths: %d gateways, ESP %v, %s: %s", worlds, esp, lab.Variant(), total)
	if total.Paths == 0 {
		t.Error("no packet was sent")
	}
}

// kernelCounts are numbers of a run.
type kernelCounts struct {
	// Paths are those through rules of iptables by an arrival, Unsent those of which the
	// kernel can have no packet. A path has a packet of each kind.
	Paths, Unsent int
	// Decrypted are the packets out of an SA, Encrypted those into one.
	Packets, Decrypted, Encrypted, TablePackets int
	Counters, Differences                       int
	// Kinds are the packets sent, and the paths unsent, by their kind.
	Kinds map[string]int
}

func (c *kernelCounts) count(kind string) {
	if c.Kinds == nil {
		c.Kinds = make(map[string]int)
	}
	c.Kinds[kind]++
}

func (c *kernelCounts) add(o kernelCounts) {
	c.Paths, c.Unsent, c.Packets, c.TablePackets = c.Paths+o.Paths, c.Unsent+o.Unsent, c.Packets+o.Packets, c.TablePackets+o.TablePackets
	c.Decrypted, c.Encrypted = c.Decrypted+o.Decrypted, c.Encrypted+o.Encrypted
	c.Counters, c.Differences = c.Counters+o.Counters, c.Differences+o.Differences
	for kind, n := range o.Kinds {
		c.count(kind)
		c.Kinds[kind] += n - 1
	}
}

func (c kernelCounts) String() string {
	text := fmt.Sprintf("%d paths, %d of them without a packet, %d packets (%d decrypted, %d encrypted), %d counters compared, %d packets to a table of nftables, %d differences",
		c.Paths, c.Unsent, c.Packets, c.Decrypted, c.Encrypted, c.Counters, c.TablePackets, c.Differences)
	for _, kind := range slices.Sorted(maps.Keys(c.Kinds)) {
		text += fmt.Sprintf("; %s: %d", kind, c.Kinds[kind])
	}
	return text
}

func kernelHasESP(t *testing.T) bool {
	t.Helper()
	h := lab.NewHosts(t, "esp")[0]
	return h.Try(t, "", "ip", "xfrm", "state", "add", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "1",
		"mode", "tunnel", "aead", "rfc4106(gcm(aes))", fmt.Sprintf("0x%x", lab.Key(1)), "128").Code == 0
}

// kernelRun sends packets of one gateway.
type kernelRun struct {
	*testing.T
	*kernelWorld
	kernelCounts
	programs *iptables.Programs
	// wires are sockets at the other ends of the links, macs the addresses of the gateway's
	// ends.
	wires    map[string]int
	macs     map[string]net.HardwareAddr
	sequence uint32
	// port is the last client's port.
	port int
	sent []kernelPacket
}

// kernelPacket is a packet of a path.
type kernelPacket struct {
	firewall.Passage
	// outer is the packet of ESP that it comes in, of which the SA is sa.
	outer *firewall.Passage
	sa    lab.SA
}

func (c *kernelRun) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *kernelRun) open() {
	c.Helper()
	c.wires, c.macs = make(map[string]int), make(map[string]net.HardwareAddr)
	c.must(c.gateway.Do(func() error {
		for _, link := range kernelLinks {
			i, err := net.InterfaceByName(link)
			if err != nil {
				return err
			}
			c.macs[link] = i.HardwareAddr
		}
		return nil
	}))
	c.must(c.outside.Do(func() error {
		for _, link := range kernelLinks {
			i, err := net.InterfaceByName(link)
			if err != nil {
				return err
			}
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			c.wires[link] = fd
			c.Cleanup(func() { unix.Close(fd) })
			if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// rules applies rules of iptables, and sends a packet of each path through them.
func (c *kernelRun) rules(wanted []rules.Ruleset) {
	ctx := context.Background()
	c.must(c.gateway.Do(func() error {
		var err error
		c.programs, err = iptables.Find(ctx, iptables.Options{Variant: iptables.Variant(lab.Variant())})
		return err
	}))
	change, err := plan.Make(wanted, c.saved())
	c.must(err)
	c.must(c.gateway.Do(func() error { return c.programs.Apply(ctx, change) }))
	for _, rs := range wanted {
		evaluator := trace.NewEvaluator(rs)
		w := evaluate.NewFirewall(rs, &c.facts, c.values(), false)
		fates := make(map[firewall.Way]evaluate.Fate)
		for _, way := range ways {
			fates[way] = w.Run(way, space.All)
		}
		all := c.packets(rs, evaluator)
		for _, p := range all {
			c.agrees(w, fates[p.Way], evaluator, p)
		}
		before := c.read(rs.Family)
		c.batches(all, kernelPacket.tuples, func() {}, func(batch []kernelPacket) (wrong string) {
			want := make(map[kernelRule]int)
			for _, p := range batch {
				for _, s := range c.steps(evaluator, p) {
					want[kernelRule{s.Table, s.Chain, s.Index}]++
				}
			}
			before, wrong = c.compare(rs, before, want)
			return wrong
		})
		c.sent = append(c.sent, all...)
	}
	clear, err := plan.Clear(c.saved())
	c.must(err)
	c.must(c.gateway.Do(func() error { return c.programs.Apply(ctx, clear) }))
}

// agrees checks that the sets have the packet's verdict.
func (c *kernelRun) agrees(w *evaluate.Firewall, f evaluate.Fate, e trace.Evaluator, p kernelPacket) {
	c.Helper()
	verdict, _ := fake.Walk(e, &c.facts, p.Passage)
	set := map[firewall.Action]space.Set{firewall.Leave: f.Left, firewall.Admit: f.Accepted, firewall.Discard: f.Dropped, firewall.Refuse: f.Rejected}[verdict.Action]
	if !w.Has(set, p.Passage) {
		c.Errorf("the sets do not %s: %s", verdict.Action, Describe(p.Passage))
	}
}

func (c *kernelRun) saved() map[xfrm.Family]live.Tables {
	c.Helper()
	have := make(map[xfrm.Family]live.Tables)
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} { // SaveAll has threads in other networks
		c.must(c.gateway.Do(func() error {
			var err error
			have[family], err = c.programs.Save(context.Background(), family)
			return err
		}))
	}
	return have
}

// kernelRule is the place of a rule.
type kernelRule struct {
	table rules.Table
	chain string
	index int
}

// read is how many packets each rule of ours has counted.
func (c *kernelRun) read(family xfrm.Family) map[kernelRule]int {
	c.Helper()
	counts := make(map[kernelRule]int)
	var tables live.Tables
	c.must(c.gateway.Do(func() error {
		var err error
		tables, err = c.programs.Save(context.Background(), family)
		return err
	}))
	for _, t := range tables.Tables {
		for _, chain := range t.Chains {
			if !chain.Ours() || t.Name == rules.NAT {
				continue
			}
			for i, r := range chain.Rules {
				counts[kernelRule{t.Name, chain.Name, i}] = int(r.Packets)
			}
		}
	}
	return counts
}

// steps are the rules that a packet meets, and those that the packet which it comes in meets.
func (c *kernelRun) steps(e trace.Evaluator, p kernelPacket) []trace.Step {
	_, steps := fake.Walk(e, &c.facts, p.Passage)
	if p.outer != nil {
		_, before := fake.Walk(e, &c.facts, *p.outer)
		steps = append(before, steps...)
	}
	return steps
}

// mostDifferences are those of a gateway that are worth the time: each takes ten seconds.
const mostDifferences = 20

// together is how many packets are sent before their sum is compared.
const together = 64

// batches sends packets, some at once that have no key in common, and calls prepare before
// and wrong with each batch. A batch that differs is sent again, one by one.
func (c *kernelRun) batches(all []kernelPacket, keys func(kernelPacket) []kernelTuple, prepare func(), wrong func([]kernelPacket) string) {
	c.Helper()
	try := func(batch []kernelPacket) string {
		var flows []kernelFlow
		for _, p := range batch {
			if k, _ := flowOf(p.Passage); isKnown(p.Passage) {
				flows = append(flows, k)
			}
		}
		c.know(flows)
		prepare()
		for _, p := range batch {
			c.send(p)
		}
		return wrong(batch)
	}
	for len(all) > 0 {
		var batch, rest []kernelPacket
		tuples := make(map[kernelTuple]bool)
		for _, p := range all {
			of := keys(p)
			if len(batch) == together || slices.ContainsFunc(of, func(t kernelTuple) bool { return tuples[t] }) {
				rest = append(rest, p)
				continue
			}
			batch = append(batch, p)
			for _, t := range of {
				tuples[t] = true
			}
		}
		if try(batch) != "" {
			for i := range batch {
				if text := try(batch[i : i+1]); text != "" {
					if c.Differences++; c.Differences > mostDifferences {
						c.Fatal("too many differences")
					}
					c.Errorf("%s\n\t%s", Describe(batch[i].Passage), text)
				}
			}
		}
		all = rest
	}
}

// tuples are those that no other packet of a batch may have: it would be of one flow with
// the packet, or the kernel would map it to another port.
func (p kernelPacket) tuples() []kernelTuple {
	e := p.Received
	k, _ := flowOf(p.Passage)
	list := []kernelTuple{k.orig, k.orig.inverse(), k.reply, k.reply.inverse()}
	if isError(p.Passage) {
		t := kernelTuple{p.Proto, netip.AddrPortFrom(e.Src, 0), netip.AddrPortFrom(e.Dst, 0), p.ICMPType, p.ICMPCode}
		list = append(list, t, t.inverse())
	}
	return list
}

// remembered are tuples, and the key by which a table of nftables remembers a flow that would
// have left in clear: it tells the sender of the next packet with that key.
func (p kernelPacket) remembered() []kernelTuple {
	key := kernelTuple{proto: p.Proto, kind: p.ICMPType, code: p.ICMPCode}
	port := uint16(0)
	if p.Proto == xfrm.TCP || p.Proto == xfrm.UDP {
		port = p.Received.SPort
	}
	key.src, key.dst = netip.AddrPortFrom(p.Flow.OrigSrc, port), netip.AddrPortFrom(p.AfterDNAT.Dst, 0)
	key.kind |= 0x80 // none that tuples has
	received := key
	received.src = netip.AddrPortFrom(p.Received.Src, port)
	return append(p.tuples(), key, received)
}

// compare looks whether the rules counted as wanted, for up to ten seconds: the kernel may
// decrypt a packet on another processor. It returns the counts, and the differences.
func (c *kernelRun) compare(rs rules.Ruleset, before, want map[kernelRule]int) (now map[kernelRule]int, wrong string) {
	c.Helper()
	for range 50 {
		var differences []string
		now = c.read(rs.Family)
		c.Counters += len(now)
		for at, n := range now {
			if got := n - before[at]; got != want[at] {
				differences = append(differences, fmt.Sprintf("%s %s %d: counted %d, want %d: %s", at.table, at.chain, at.index, got, want[at], ruleAt(rs, at)))
			}
		}
		if len(differences) == 0 {
			return now, ""
		}
		slices.Sort(differences)
		wrong = strings.Join(differences, "\n\t")
		time.Sleep(200 * time.Millisecond)
	}
	return now, wrong
}

func ruleAt(rs rules.Ruleset, at kernelRule) string {
	for _, chain := range rs.Chains {
		if chain.Table == at.table && chain.Name == at.chain && at.index < chain.Rules.Len() {
			return chain.Rules.Slice()[at.index].Text(rs.Family)
		}
	}
	return "no such rule"
}

// forged is the packet on the wire.
func forged(p firewall.Passage) lab.Packet {
	e := p.Received
	k, _ := flowOf(p)
	if isError(p) {
		quoted := k.orig.inverse().packet(true)
		if p.Flow.Reply {
			quoted = k.reply.inverse().packet(false)
		}
		return lab.ICMPPacket(e.Src, e.Dst, p.ICMPType, p.ICMPCode, append(make([]byte, 4), quoted...)...)
	}
	if isKnown(p) {
		if p.Flow.Reply {
			return k.reply.packet(true)
		}
		return k.orig.packet(false)
	}
	return kernelTuple{p.Proto, netip.AddrPortFrom(e.Src, e.SPort), netip.AddrPortFrom(e.Dst, e.DPort), p.ICMPType, p.ICMPCode}.packet(false)
}

// send sends a packet to the gateway, or from it.
func (c *kernelRun) send(p kernelPacket) {
	c.Helper()
	packet := forged(p.Passage)
	if p.Way == firewall.FromHost {
		err := c.gateway.Do(func() error { return sendMarked(packet, passesPolicies(p.Passage)) })
		// Rules refuse it, or a policy holds it with the source that NAT gives it.
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EREMOTE) {
			c.Fatalf("%s: %v", Describe(p.Passage), err)
		}
		return
	}
	if p.outer != nil {
		c.sequence++
		sealed, err := lab.SealedPacket(p.sa, c.sequence, packet)
		c.must(err)
		packet = sealed
	}
	kind := uint16(unix.ETH_P_IP)
	if packet[0]>>4 == 6 {
		kind = unix.ETH_P_IPV6
	}
	frame := append(slices.Clone([]byte(c.macs[p.In])), 2, 0, 0, 0, 0, 1)
	frame = append(binary.BigEndian.AppendUint16(frame, kind), packet...)
	if _, err := unix.Write(c.wires[p.In], frame); err != nil {
		c.Fatal(err)
	}
}

// sendMarked sends a packet from the source that it has, with ownMark, around all
// policies or not.
func sendMarked(packet lab.Packet, bypass bool) error {
	prepare := []func(int, unix.Sockaddr) error{setOwnMark, unix.Bind}
	if bypass {
		prepare = append(prepare, passPolicies)
	}
	return packet.Send(prepare...)
}

func setOwnMark(fd int, _ unix.Sockaddr) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, ownMark)
}

// passPolicies has a socket's packets pass all policies, as those of IKE daemons do.
func passPolicies(fd int, src unix.Sockaddr) error {
	family, level, name := unix.AF_INET, unix.IPPROTO_IP, unix.IP_XFRM_POLICY
	if _, ok := src.(*unix.SockaddrInet6); ok {
		family, level, name = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_XFRM_POLICY
	}
	policy := make([]byte, 168) // struct xfrm_userpolicy_info
	binary.NativeEndian.PutUint16(policy[40:], uint16(family))
	for i := range 32 { // without limits
		policy[56+i] = 0xff
	}
	policy[160] = byte(xfrm.Out)
	return unix.SetsockoptString(fd, level, name, string(policy))
}

// watch is a table of nftables behind all others, that counts the packets which pass.
const watch = `table inet watch {
	counter in { }
	counter in_verified { }
	counter forward_verified { }
	counter out { }
	chain in { type filter hook input priority 2000; counter name in; meta mark & %[1]d == %[1]d counter name in_verified; }
	chain forward { type filter hook forward priority 2000; meta mark & %[1]d == %[1]d counter name forward_verified; }
	chain out { type filter hook postrouting priority 2000; counter name out; }
}
`

// table puts a table of nftables in force, and sends the same packets through it. It
// returns false where the kernel has no nf_tables.
func (c *kernelRun) table(want sets.Table) (bool, error) {
	var conn *nftables.Conn
	err := c.gateway.Do(func() error {
		var err error
		if conn, err = nftables.Open(); err != nil {
			return err
		}
		if _, err := conn.Find(); err != nil {
			return err
		}
		state, err := conn.Read(want.Name)
		if err != nil {
			return err
		}
		_, err = conn.Apply(state, sets.Diff(state.Table, want), want)
		return err
	})
	if err != nil {
		return false, err
	}
	defer conn.Close()
	c.gateway.RunInput(c.T, fmt.Sprintf(watch, c.facts.Marks.Verified), "nft", "-f", "-")
	walls := make(map[kernelWall]kernelFate)
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		w := evaluate.NewTable(want, family, &c.facts, c.values(), false)
		for _, way := range ways {
			f := w.Run(way, space.All)
			fate := kernelFate{Firewall: w, gone: w.Or(f.Dropped, f.Rejected), leaving: w.DroppedAt(way, sets.Postrouting)}
			fate.verified, _ = w.VerifiedOf(way, space.All)
			for _, hook := range []sets.Hook{sets.Prerouting, sets.Forward, sets.Output} {
				if (hook == sets.Output) == (way == firewall.FromHost) {
					fate.before = append(fate.before, w.DroppedAt(way, hook))
				}
			}
			walls[kernelWall{family, way}] = fate
		}
		c.must(w.Odd())
	}
	before := c.watched()
	c.TablePackets = len(c.sent)
	var refused strings.Builder
	for _, set := range want.Sets { // a family without guards has none
		if strings.HasPrefix(set.Name, "refused") {
			fmt.Fprintf(&refused, "flush set inet %s %s\n", want.Name, set.Name)
		}
	}
	forget := func() { c.gateway.RunInput(c.T, refused.String(), "nft", "-f", "-") }
	c.batches(c.sent, kernelPacket.remembered, forget, func(batch []kernelPacket) string {
		want := make(map[string]int)
		for _, p := range batch {
			c.expect(want, walls[kernelWall{xfrm.FamilyOf(p.Received.Src), p.Way}], p)
		}
		var wrong []string
		for range 50 {
			now := c.watched()
			wrong = nil
			for _, name := range []string{"in", "in_verified", "forward_verified", "out"} {
				if got := now[name] - before[name]; got != want[name] {
					wrong = append(wrong, fmt.Sprintf("a table of nftables: %s: counted %d, want %d", name, got, want[name]))
				}
			}
			if wrong == nil {
				before = now
				return ""
			}
			time.Sleep(200 * time.Millisecond)
		}
		before = c.watched()
		return strings.Join(wrong, ", ")
	})
	return true, nil
}

// kernelWall is packets of a family on a way, and kernelFate those that a table drops on all of
// the way, at each hook before postrouting, and there.
type kernelWall struct {
	family xfrm.Family
	way    firewall.Way
}

type kernelFate struct {
	*evaluate.Firewall
	gone, verified, leaving space.Set
	before                  []space.Set
}

// drops reports whether a packet does not pass. Behind NAT the table sees the source that NAT
// gives it, for which the space has no field.
func (c *kernelRun) drops(f *kernelFate, p firewall.Passage) bool {
	source, mapped := c.sentFrom(p)
	if !mapped {
		return f.Has(f.gone, p)
	}
	for _, set := range f.before {
		if f.Has(set, p) {
			return true
		}
	}
	sent := p
	sent.Verified, sent.Received.Src, sent.Received.SPort = f.Has(f.verified, p), source.Addr(), source.Port()
	sent.SrcLocal = slices.ContainsFunc(c.snapshot.Host.Addresses, func(a xfrm.Address) bool { return a.Prefix.Addr() == source.Addr() })
	return f.Has(f.leaving, sent) || c.held(p, source)
}

// expect adds the counts of watch for a packet. A packet that is forwarded is marked before
// it leaves, so it may be dropped after.
func (c *kernelRun) expect(want map[string]int, f kernelFate, p kernelPacket) {
	p.Tagged = false // rules of iptables had set it
	gone, verified := c.drops(&f, p.Passage), f.Has(f.verified, p.Passage)
	if p.outer != nil {
		want["in"]++
		tagged := p.Passage
		if tagged.Tagged = true; c.drops(&f, tagged) != gone || f.Has(f.verified, tagged) != verified {
			c.Errorf("a table of nftables asks for TAG: %s", Describe(tagged))
		}
	}
	if !gone {
		want[map[bool]string{true: "in", false: "out"}[p.Way == firewall.ToHost]]++
	}
	switch {
	case !verified:
	case p.Way == firewall.ToHost:
		want["in_verified"]++
	case p.Way == firewall.Through:
		want["forward_verified"]++
	}
}

// sentFrom is the source that NAT gives to a packet that leaves, and whether it gives one.
func (c *kernelRun) sentFrom(p firewall.Passage) (netip.AddrPort, bool) {
	k, _ := flowOf(p)
	source, mapped := k.reply.dst, k.snat
	if p.Flow.Reply {
		source, mapped = k.orig.dst, k.dnat
	}
	if isError(p) || p.Proto != xfrm.TCP && p.Proto != xfrm.UDP {
		source = netip.AddrPortFrom(source.Addr(), p.Received.SPort)
	}
	return source, mapped && p.Way != firewall.ToHost
}

// held reports whether the policy that a packet finds with another source holds or blocks it.
// This host's own IKE and ESP pass all policies.
func (c *kernelRun) held(p firewall.Passage, source netip.AddrPort) bool {
	f := xfrm.Flow{Src: source.Addr(), Dst: p.AfterDNAT.Dst, Proto: p.Proto}
	switch {
	case p.Way == firewall.FromHost && passesPolicies(p):
		return false
	case p.Proto.IsICMP():
		f.SPort, f.DPort = uint16(p.ICMPType), uint16(p.ICMPCode)
	case p.Proto == xfrm.TCP || p.Proto == xfrm.UDP:
		f.SPort, f.DPort = source.Port(), p.AfterDNAT.DPort
	}
	policy, ok := c.snapshot.Lookup(xfrm.Out, f)
	if !ok || policy.Bypass() {
		return false
	}
	at, ok := c.in.Set.Owner(policy)
	return !ok || !slices.ContainsFunc(c.in.Set.Tunnels[at].SAs, func(sa xfrm.SA) bool { return !sa.Inbound })
}

// passesPolicies reports whether a packet from this host comes out of a socket like those of
// IKE daemons.
func passesPolicies(p firewall.Passage) bool {
	return p.Proto == xfrm.ESP || p.Proto == xfrm.AH || p.Proto == xfrm.UDP && (p.Received.SPort == firewall.IKE || p.Received.SPort == firewall.NATT)
}

// watched are the counters of watch.
func (c *kernelRun) watched() map[string]int {
	c.Helper()
	counts := make(map[string]int)
	name := ""
	for _, line := range strings.Split(c.gateway.Run(c.T, "nft", "list", "counters", "table", "inet", "watch"), "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 3 && words[0] == "counter":
			name = words[1]
		case len(words) == 4 && words[0] == "packets":
			counts[name], _ = strconv.Atoi(words[1])
		}
	}
	return counts
}
