package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/explain"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// words are the flags of explain as they were given.
type words struct {
	src, dst, in, out, proto, icmp, ct string
	sport, dport                       uint16
	reqid, mark                        uint32
	tag                                bool
}

func explainCommand(o *options) *cobra.Command {
	var given words
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:  "explain --src ADDRESS --dst ADDRESS --proto PROTOCOL [--dport PORT] [--in INTERFACE] [--out INTERFACE]",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := given.query(cmd.Flags().Changed)
			if err != nil {
				return usageError(err.Error())
			}
			e, err := explainPacket(cmd.Context(), o, file, q)
			if err != nil {
				return err
			}
			if asJSON {
				return e.WriteJSON(cmd.OutOrStdout())
			}
			return e.WriteText(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&given.src, "src", "", "source `address`")
	f.StringVar(&given.dst, "dst", "", "destination `address`")
	f.StringVar(&given.in, "in", "", "`interface` that it comes in by")
	f.StringVar(&given.out, "out", "", "`interface` that it leaves by")
	f.StringVar(&given.proto, "proto", "", "`protocol`: tcp, udp, sctp, icmp, esp, ah, gre and so on, or a number")
	f.Uint16Var(&given.sport, "sport", 0, "source `port` (default: a client's)")
	f.Uint16Var(&given.dport, "dport", 0, "destination `port`")
	f.StringVar(&given.icmp, "icmp-type", "", "ICMP `type` or type/code (default: an echo request)")
	f.StringVar(&given.ct, "ctstate", explain.CtNew, "what conntrack calls it: new, established or related")
	f.Uint32Var(&given.reqid, "reqid", 0, "it came out of a state with this `reqid`")
	f.BoolVar(&given.tag, "tag", false, "it carries TAG")
	f.Uint32Var(&given.mark, "mark", 0, "it carries this fwmark, such as VERIFIED on a device inside a tunnel")
	f.BoolVar(&asJSON, "json", false, "print the explanation as JSON")
	f.StringVar(&file, "snapshot", "", "a `file` in place of the kernel; live rules are then not read")
	for _, flag := range []string{"in", "out"} {
		cobra.CheckErr(cmd.RegisterFlagCompletionFunc(flag, completeInterfaces))
	}
	states := []string{explain.CtNew, explain.CtEstablished, explain.CtRelated}
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("ctstate", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp)))
	for _, flag := range []string{"src", "dst", "proto", "sport", "dport", "icmp-type", "reqid", "mark"} {
		cobra.CheckErr(cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions))
	}
	return cmd
}

func explainPacket(ctx context.Context, o *options, snapshot string, q explain.Query) (explain.Explanation, error) {
	g, err := gateway.Open(ctx, o.report(snapshot))
	if err != nil {
		return explain.Explanation{}, err
	}
	look, err := g.Look(ctx)
	if err != nil {
		return explain.Explanation{}, err
	}
	world := explain.World{Snapshot: look.Snapshot, Set: look.Set, Result: look.Result, Marks: look.Config.Marks, Warnings: look.Warnings}
	if !g.FromSnapshot() {
		world.Live, world.Differences = look.Live.Rules, look.Change.Differences
		world.Warnings = append(world.Warnings, look.MarkWarnings()...)
	}
	e, err := world.Explain(q)
	if err != nil {
		return explain.Explanation{}, usageError(err.Error())
	}
	return e, nil
}

// query reads the flags.
func (w words) query(given func(string) bool) (explain.Query, error) {
	q := explain.Query{
		In: w.in, Out: w.out, SPort: w.sport, DPort: w.dport,
		Reqid: w.reqid, HasReqid: given("reqid"), Tag: w.tag, Mark: w.mark, Ct: w.ct,
	}
	for _, a := range [...]struct {
		flag, text string
		to         *netip.Addr
	}{{"src", w.src, &q.Src}, {"dst", w.dst, &q.Dst}} {
		if a.text == "" {
			return q, fmt.Errorf("--%s is missing: explain wants --src, --dst and --proto", a.flag)
		}
		addr, err := netip.ParseAddr(a.text)
		if err != nil {
			return q, fmt.Errorf("--%s %s: want an IP address", a.flag, a.text)
		}
		*a.to = addr
	}
	switch w.ct {
	case explain.CtNew, explain.CtEstablished, explain.CtRelated:
	default:
		return q, fmt.Errorf("--ctstate %s: want new, established or related", w.ct)
	}
	if err := w.upper(&q, given); err != nil {
		return q, err
	}
	return q, nil
}

// upper reads the protocol and what belongs to it.
func (w words) upper(q *explain.Query, given func(string) bool) error {
	if w.proto == "" {
		return fmt.Errorf("--proto is missing: such as --proto tcp --dport 22, or --proto icmp")
	}
	name := strings.ToLower(w.proto)
	if name == "ipv6-icmp" || name == "icmp" && q.Src.Is6() {
		name = "icmpv6"
	}
	proto, err := xfrm.ParseProto(name)
	if err != nil || proto == 0 {
		return fmt.Errorf("--proto %s: not a protocol that is known by name; give its number, 1 to 255", w.proto)
	}
	q.Proto = proto
	if proto == xfrm.ICMP && q.Src.Is6() || proto == xfrm.ICMPv6 && q.Src.Is4() {
		return fmt.Errorf("--proto %s does not go with --src %s", w.proto, q.Src)
	}
	ported, icmp := explain.Ported(proto), proto == xfrm.ICMP || proto == xfrm.ICMPv6
	switch {
	case !ported && (given("dport") || given("sport")):
		return fmt.Errorf("--proto %s has no ports: leave out --dport and --sport", w.proto)
	case ported && !given("dport"):
		return fmt.Errorf("--proto %s wants --dport", w.proto)
	case ported && (w.dport == 0 || given("sport") && w.sport == 0):
		return fmt.Errorf("port 0 is none: want 1 to 65535")
	case !icmp && w.icmp != "":
		return fmt.Errorf("--icmp-type goes with --proto icmp")
	}
	if !icmp {
		return nil
	}
	if w.icmp == "" {
		q.ICMPType = 8
		if proto == xfrm.ICMPv6 {
			q.ICMPType = 128
		}
		return nil
	}
	kind, code, hasCode := strings.Cut(w.icmp, "/")
	q.ICMPType, err = parseByte(kind)
	if err == nil && hasCode {
		q.ICMPCode, err = parseByte(code)
	}
	if err != nil {
		return fmt.Errorf("--icmp-type %s: want a type or type/code, such as 3/4", w.icmp)
	}
	return nil
}

func parseByte(text string) (uint8, error) {
	n, err := strconv.ParseUint(text, 10, 8)
	return uint8(n), err
}
