package prove

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
	"github.com/xfrmfw/xfrmfw/firewall/prove/expect"
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
// marks it as verified or lets it pass. The paths are those of packets that the test can
// send: new flows without NAT, in clear or out of an SA. XFRMFW_PATHS is the number of
// gateways, from the seed XFRMFW_SEED on.
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
	// Paths are those through rules of iptables, Unsent those without a packet that the test
	// can send.
	Paths, Unsent int
	// Decrypted are the packets out of an SA, Encrypted those into one.
	Packets, Decrypted, Encrypted, TablePackets int
	Counters, Differences                       int
}

func (c *kernelCounts) add(o kernelCounts) {
	c.Paths, c.Unsent, c.Packets, c.TablePackets = c.Paths+o.Paths, c.Unsent+o.Unsent, c.Packets+o.Packets, c.TablePackets+o.TablePackets
	c.Decrypted, c.Encrypted = c.Decrypted+o.Decrypted, c.Encrypted+o.Encrypted
	c.Counters, c.Differences = c.Counters+o.Counters, c.Differences+o.Differences
}

func (c kernelCounts) String() string {
	return fmt.Sprintf("%d paths, %d of them sent (%d decrypted, %d encrypted), %d counters compared, %d packets to a table of nftables, %d differences",
		c.Paths, c.Packets, c.Decrypted, c.Encrypted, c.Counters, c.TablePackets, c.Differences)
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
	sent     []kernelPacket
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
		w := evaluate.NewWithoutNAT(rs, &c.facts, space.Values{Names: append(slices.Clone(kernelLinks), "lo")})
		fates := make(map[firewall.Way]evaluate.Fate)
		for _, way := range ways {
			fates[way] = w.Run(way, space.All)
		}
		var all []kernelPacket
		for p := range c.packets(w, evaluator) {
			c.agrees(w, fates[p.Way], evaluator, p)
			all = append(all, p)
		}
		before := c.read(rs.Family)
		c.batches(all, func(batch []kernelPacket) (wrong string) {
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

// together is how many packets are sent before their sum is compared.
const together = 32

// batches sends packets, some at once, and calls wrong with each batch. No packet of a batch
// is an answer to another. A batch that differs is sent again, one by one.
func (c *kernelRun) batches(all []kernelPacket, wrong func([]kernelPacket) string) {
	c.Helper()
	try := func(batch []kernelPacket) string {
		c.flush()
		for _, p := range batch {
			c.send(p)
		}
		return wrong(batch)
	}
	for len(all) > 0 {
		seen := make(map[[2]netip.Addr]bool)
		n := 0
		for n < min(together, len(all)) {
			e := all[n].Received
			if seen[[2]netip.Addr{e.Dst, e.Src}] {
				break
			}
			seen[[2]netip.Addr{e.Src, e.Dst}] = true
			n++
		}
		if batch := all[:n]; try(batch) != "" {
			for i := range batch {
				if text := try(batch[i : i+1]); text != "" {
					c.Differences++
					c.Errorf("%s\n\t%s", Describe(batch[i].Passage), text)
				}
			}
		}
		all = all[n:]
	}
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

// packets are one of each path that the test can send a packet on.
func (c *kernelRun) packets(w *evaluate.Firewall, e trace.Evaluator) func(yield func(kernelPacket) bool) {
	h := host{w.Space, c.snapshot, c.in.Set}
	return func(yield func(kernelPacket) bool) {
		for _, way := range ways {
			for _, of := range c.kinds(&h, e, way) {
				for path := range w.Paths(way, of.packets) {
					c.Paths++
					p := kernelPacket{Passage: w.Witness(way, path.Packets), outer: of.outer, sa: of.sa}
					if !c.coherent(p.Passage) {
						c.Unsent++
						continue
					}
					c.Packets++
					c.Decrypted += len(p.Path)
					c.Encrypted += len(p.Ahead)
					if !yield(p) {
						return
					}
				}
			}
		}
	}
}

// kernelKind is packets that arrive in one way.
type kernelKind struct {
	packets space.Set
	outer   *firewall.Passage
	sa      lab.SA
}

// kinds are the packets that the test can send on a way: in clear by each link, and out of
// each SA.
func (c *kernelRun) kinds(h *host, e trace.Evaluator, way firewall.Way) []kernelKind {
	var kinds []kernelKind
	add := func(t expect.Test, outer *firewall.Passage, sa lab.SA) {
		set := h.And(h.packets(t, way), c.sendable(h, way))
		if way == firewall.ToHost {
			set = h.Minus(set, h.Bit(h.Ahead.Present))
		} else {
			set, _ = h.encrypted(way, set)
		}
		kinds = append(kinds, kernelKind{set, outer, sa})
	}
	if way == firewall.FromHost {
		add(expect.Test{}, nil, lab.SA{})
		return kinds
	}
	for _, link := range kernelLinks {
		add(expect.Test{In: link}, nil, lab.SA{})
	}
	for reqid, sa := range c.inbound {
		if (lab.FamilyOf(sa.Src) == lab.IPv6) != (h.Family == xfrm.IPv6) {
			continue // the outer packet is the other family's
		}
		outer := &firewall.Passage{
			Way: firewall.ToHost, In: "wan0", Proto: xfrm.ESP, Received: firewall.Ends{Src: sa.Src, Dst: sa.Dst}, AfterDNAT: firewall.Ends{Src: sa.Src, Dst: sa.Dst}, DstLocal: true,
			Flow: firewall.Flow{Proto: xfrm.ESP, OrigSrc: sa.Src, OrigDst: sa.Dst, ReplySrc: sa.Dst, ReplyDst: sa.Src},
		}
		_, steps := fake.Walk(e, &c.facts, *outer)
		mark := uint32(0)
		for _, s := range steps {
			if s.Rule.Target.Verb == rules.SetMark {
				mark = mark&^s.Rule.Target.Mask ^ s.Rule.Target.Value
			}
		}
		add(expect.Test{In: "wan0", Reqid: reqid, HasReqid: true, Tag: mark&c.facts.Marks.Tag != 0}, outer, sa)
	}
	return kinds
}

// sendable are packets that the kernel takes for others than those of a link, and that it
// does not refuse before the rules see them.
func (c *kernelRun) sendable(h *host, way firewall.Way) space.Set {
	p := netip.MustParsePrefix
	odd := []netip.Prefix{
		p("0.0.0.0/8"), p("127.0.0.0/8"), p("224.0.0.0/3"), p("169.254.0.0/16"), p("::/96"), p("::ffff:0:0/96"), p("fe80::/10"), p("ff00::/8"),
	}
	for _, a := range c.snapshot.Host.Addresses { // broadcasts, and anycasts of routers
		first, last := a.Prefix.Masked().Addr(), a.Prefix.Masked().Addr()
		b := last.AsSlice()
		for i := a.Prefix.Bits(); i < 8*len(b); i++ {
			b[i/8] |= 1 << (7 - i%8)
		}
		last, _ = netip.AddrFromSlice(b)
		odd = append(odd, netip.PrefixFrom(first, first.BitLen()), netip.PrefixFrom(last, last.BitLen()))
	}
	set := h.Or(h.LiesInAny(h.Src, odd), h.LiesInAny(h.Dst, odd)).Not()
	var protos []space.Set
	for _, proto := range []xfrm.Proto{xfrm.TCP, xfrm.UDP, h.ICMP(), xfrm.ESP, xfrm.GRE, 253} {
		protos = append(protos, h.Number(h.Proto, uint64(proto)))
	}
	if h.Family == xfrm.IPv4 { // AH is an extension header of IPv6
		protos = append(protos, h.Number(h.Proto, uint64(xfrm.AH)))
	}
	set = h.And(set, h.Union(protos...))
	if way == firewall.FromHost { // a raw socket's lookup of policies has neither protocol nor ports
		for _, policy := range c.snapshot.Policies {
			if policy.Dir == xfrm.Out && policy.Selector.Proto != 0 {
				set = h.Minus(set, h.And(h.LiesIn(h.Src, policy.Selector.Src), h.LiesIn(h.Dst, policy.Selector.Dst)))
			}
		}
	}
	return set
}

// coherent reports whether the flow of a packet is its own.
func (c *kernelRun) coherent(p firewall.Passage) bool {
	f := p.Flow
	return p.AfterDNAT == p.Received && f.OrigSrc == p.Received.Src && f.OrigDst == p.Received.Dst && f.ReplySrc == f.OrigDst && f.ReplyDst == f.OrigSrc && f.Proto == p.Proto
}

// forged is the packet on the wire.
func (c *kernelRun) forged(p firewall.Passage) lab.Packet {
	e := p.Received
	switch p.Proto {
	case xfrm.TCP:
		return lab.TCPSynPacket(netip.AddrPortFrom(e.Src, e.SPort), netip.AddrPortFrom(e.Dst, e.DPort))
	case xfrm.UDP:
		return lab.UDPPacket(netip.AddrPortFrom(e.Src, e.SPort), netip.AddrPortFrom(e.Dst, e.DPort), "path")
	case xfrm.ICMP, xfrm.ICMPv6:
		return lab.ICMPPacket(e.Src, e.Dst, p.ICMPType, p.ICMPCode)
	case xfrm.ESP:
		return lab.ESPPacket(e.Src, e.Dst, 0xbad, 1)
	}
	return lab.IPPacket(e.Src, e.Dst, byte(p.Proto), make([]byte, 32))
}

// send sends a packet to the gateway, or from it.
func (c *kernelRun) send(p kernelPacket) {
	c.Helper()
	packet := c.forged(p.Passage)
	if p.Way == firewall.FromHost {
		own := p.Proto == xfrm.ESP || p.Proto == xfrm.AH || p.Proto == xfrm.UDP && (p.Received.SPort == firewall.IKE || p.Received.SPort == firewall.NATT)
		err := c.gateway.Do(func() error { return sendMarked(packet, own) })
		if err != nil && !errors.Is(err, unix.EPERM) { // rules refuse it
			c.Fatal(err)
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

// flush forgets all flows, so that each packet begins one.
func (c *kernelRun) flush() {
	c.Helper()
	c.must(c.gateway.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		message := make([]byte, unix.SizeofNlMsghdr+4)
		binary.NativeEndian.PutUint32(message, uint32(len(message)))
		binary.NativeEndian.PutUint16(message[4:], unix.NFNL_SUBSYS_CTNETLINK<<8|2) // IPCTNL_MSG_CT_DELETE
		binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		answer := make([]byte, 512)
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if err != nil {
			return err
		}
		if n < unix.SizeofNlMsghdr+4 {
			return fmt.Errorf("flush flows: short answer")
		}
		if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
			return fmt.Errorf("flush flows: %w", unix.Errno(-code))
		}
		return nil
	}))
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
	walls := make(map[xfrm.Family]*evaluate.Firewall)
	fates, marked := make(map[xfrm.Family]map[firewall.Way]evaluate.Fate), make(map[xfrm.Family]map[firewall.Way]space.Set)
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		walls[family], fates[family] = evaluate.NewTable(want, family, &c.facts, space.Values{Names: append(slices.Clone(kernelLinks), "lo")}, true), make(map[firewall.Way]evaluate.Fate)
		marked[family] = make(map[firewall.Way]space.Set)
		for _, way := range ways {
			fates[family][way] = walls[family].Run(way, space.All)
			marked[family][way], _ = walls[family].VerifiedOf(way, space.All)
		}
		c.must(walls[family].Odd())
	}
	before := c.watched()
	c.TablePackets = len(c.sent)
	c.batches(c.sent, func(batch []kernelPacket) string {
		want := make(map[string]int)
		for _, p := range batch {
			w := walls[xfrm.FamilyOf(p.Received.Src)]
			c.expect(want, w, fates[w.Family][p.Way], marked[w.Family][p.Way], p)
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

// expect adds the counts of watch for a packet. A packet that is forwarded is marked before
// it leaves, so it may be dropped after.
func (c *kernelRun) expect(want map[string]int, w *evaluate.Firewall, f evaluate.Fate, marked space.Set, p kernelPacket) {
	p.Tagged = false // rules of iptables had set it
	gone, verified := w.Has(w.Or(f.Dropped, f.Rejected), p.Passage), w.Has(marked, p.Passage)
	if p.outer != nil {
		want["in"]++
		tagged := p.Passage
		if tagged.Tagged = true; w.Has(w.Or(f.Dropped, f.Rejected), tagged) != gone || w.Has(marked, tagged) != verified {
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
