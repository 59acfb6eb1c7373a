// Package test checks the tree as a whole.
package test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/xfrmfw/xfrmfw"

// The data flows one way: kernel, xfrm, firewall, rules, iptables, and cmd wires. A
// package may import these of ours and, where it is not marked, nothing from
// outside the standard library.
const allowed = `
xfrm:
xfrm/wire: xfrm
xfrm/follow: xfrm xfrm/places xfrm/wire
xfrm/places:
xfrm/kernel: xfrm xfrm/wire github.com/vishvananda/netlink golang.org/x/sys
xfrm/sample: xfrm
firewall: firewall/device firewall/guard firewall/internal/prefix firewall/limit xfrm
firewall/decide: firewall firewall/device firewall/guard firewall/internal/prefix firewall/limit xfrm
firewall/device: firewall/internal/prefix xfrm
firewall/guard: firewall/device firewall/internal/prefix xfrm
firewall/limit: firewall/device firewall/internal/prefix xfrm
firewall/internal/fake: firewall firewall/guard firewall/internal/mirror firewall/rules firewall/rules/live firewall/rules/trace xfrm
firewall/internal/mirror: xfrm
firewall/internal/pinned:
firewall/prove: firewall firewall/device firewall/foreign firewall/guard firewall/internal/prefix firewall/prove/evaluate firewall/prove/expect firewall/prove/judge firewall/prove/space firewall/rules firewall/rules/live firewall/sets xfrm
firewall/prove/bdd:
firewall/prove/evaluate: firewall firewall/internal/prefix firewall/prove/bdd firewall/prove/space firewall/rules firewall/rules/live firewall/sets xfrm
firewall/prove/expect: firewall firewall/rules xfrm
firewall/prove/judge: firewall firewall/internal/prefix firewall/prove/space xfrm
firewall/prove/space: firewall firewall/internal/prefix firewall/prove/bdd xfrm
firewall/sets: xfrm
firewall/nftables: firewall/nftables/wire firewall/sets xfrm golang.org/x/sys
firewall/nftables/wire: firewall/sets xfrm golang.org/x/sys
firewall/sets/program: firewall firewall/sets firewall/sets/prune xfrm
firewall/sets/prune: firewall/sets
firewall/sets/purpose: firewall/rules
firewall/sets/ahead: firewall firewall/decide firewall/guard firewall/sets firewall/sets/program xfrm xfrm/places
firewall/internal/prefix: xfrm
firewall/rules: firewall firewall/device xfrm
firewall/rules/live: firewall firewall/internal/prefix firewall/rules xfrm
firewall/rules/plan: firewall/rules firewall/rules/live xfrm
firewall/rules/trace: firewall firewall/internal/prefix firewall/rules xfrm
firewall/rules/layout: firewall firewall/internal/prefix firewall/rules firewall/rules/tree xfrm
firewall/rules/accept: firewall firewall/internal/prefix firewall/rules firewall/rules/layout firewall/rules/tree xfrm
firewall/rules/compile: firewall firewall/decide firewall/guard firewall/internal/prefix firewall/rules firewall/rules/accept firewall/rules/degrade firewall/rules/layout firewall/rules/tree xfrm
firewall/rules/degrade: firewall/internal/prefix firewall/rules xfrm
firewall/rules/tree: firewall firewall/internal/prefix firewall/rules xfrm
firewall/iptables: firewall/rules firewall/rules/live firewall/rules/plan xfrm github.com/coreos/go-iptables golang.org/x/sys firewall
cmd/xfrmfw: xfrm xfrm/kernel firewall firewall/foreign firewall/sets/program firewall/rules firewall/rules/live firewall/rules/plan firewall/iptables cmd/xfrmfw/internal cmd/xfrmfw/man github.com/spf13 golang.org/x/sys
cmd/xfrmfw/internal/config: firewall firewall/prove/expect firewall/guard firewall/rules xfrm cmd/xfrmfw/internal/listen github.com/goccy/go-yaml cmd/xfrmfw/internal/engine
cmd/xfrmfw/internal/confirm: firewall/rules/live firewall/rules/plan xfrm firewall/iptables cmd/xfrmfw/internal/gateway cmd/xfrmfw/internal/nudge cmd/xfrmfw/internal/reconcile cmd/xfrmfw/internal/rundir cmd/xfrmfw/internal/worker golang.org/x/sys cmd/xfrmfw/internal/approved cmd/xfrmfw/internal/pending
cmd/xfrmfw/internal/daemon: firewall/limit firewall/rules/plan xfrm xfrm/kernel firewall/iptables cmd/xfrmfw/internal/config cmd/xfrmfw/internal/confirm cmd/xfrmfw/internal/gateway cmd/xfrmfw/internal/interrupt cmd/xfrmfw/internal/metrics cmd/xfrmfw/internal/nudge cmd/xfrmfw/internal/pace cmd/xfrmfw/internal/reconcile cmd/xfrmfw/internal/rundir cmd/xfrmfw/internal/status/gather cmd/xfrmfw/internal/text github.com/coreos/go-systemd golang.org/x/sys firewall cmd/xfrmfw/internal/pending xfrm/follow xfrm/wire
cmd/xfrmfw/internal/engine: firewall firewall/rules firewall/rules/accept firewall/rules/compile firewall/sets firewall/sets/program
cmd/xfrmfw/internal/explain: firewall firewall/rules firewall/rules/live firewall/rules/plan firewall/rules/trace xfrm cmd/xfrmfw/internal/text firewall/rules/compile
cmd/xfrmfw/internal/doctor: firewall/limit firewall firewall/guard firewall/rules firewall/rules/live firewall/rules/plan xfrm firewall/foreign cmd/xfrmfw/internal/text firewall/rules/compile cmd/xfrmfw/internal/doctor/nft
cmd/xfrmfw/internal/doctor/gather: firewall/rules/plan xfrm firewall/iptables cmd/xfrmfw/internal/doctor cmd/xfrmfw/internal/gateway cmd/xfrmfw/internal/status firewall firewall/foreign firewall/sets/program firewall/sets firewall/rules firewall/sets/purpose
firewall/foreign: firewall/rules
cmd/xfrmfw/internal/gateway: firewall/limit xfrm xfrm/kernel firewall firewall/prove firewall/rules firewall/rules/live firewall/rules/plan firewall/iptables cmd/xfrmfw/internal/config cmd/xfrmfw/internal/memory cmd/xfrmfw/internal/peers cmd/xfrmfw/internal/rundir cmd/xfrmfw/internal/text cmd/xfrmfw/internal/approved cmd/xfrmfw/internal/pending firewall/rules/compile firewall/guard cmd/xfrmfw/internal/engine firewall/nftables firewall/sets firewall/sets/program firewall/sets/ahead xfrm/follow xfrm/wire
cmd/xfrmfw/internal/doctor/nft:
cmd/xfrmfw/internal/hook: cmd/xfrmfw/internal/config cmd/xfrmfw/internal/gateway cmd/xfrmfw/internal/nudge cmd/xfrmfw/internal/peers cmd/xfrmfw/internal/reconcile cmd/xfrmfw/internal/rundir cmd/xfrmfw/internal/worker cmd/xfrmfw/internal/confirm cmd/xfrmfw/internal/text
cmd/xfrmfw/internal/approved: cmd/xfrmfw/internal/rundir
cmd/xfrmfw/internal/pending: cmd/xfrmfw/internal/rundir golang.org/x/sys
cmd/xfrmfw/internal/interrupt: golang.org/x/sys
cmd/xfrmfw/internal/listen:
cmd/xfrmfw/internal/memory: firewall firewall/guard xfrm cmd/xfrmfw/internal/rundir golang.org/x/sys
cmd/xfrmfw/internal/metrics: cmd/xfrmfw/internal/rundir golang.org/x/sys xfrm cmd/xfrmfw/internal/listen cmd/xfrmfw/internal/status github.com/prometheus/client_golang github.com/prometheus/common xfrm/wire
cmd/xfrmfw/internal/nudge: cmd/xfrmfw/internal/rundir golang.org/x/sys
cmd/xfrmfw/internal/pace:
cmd/xfrmfw/internal/peers: xfrm cmd/xfrmfw/internal/rundir golang.org/x/sys
cmd/xfrmfw/internal/reconcile: firewall firewall/guard firewall/rules cmd/xfrmfw/internal/memory firewall/rules/live firewall/rules/plan xfrm firewall/iptables cmd/xfrmfw/internal/gateway cmd/xfrmfw/internal/nudge cmd/xfrmfw/internal/text xfrm/kernel firewall/sets cmd/xfrmfw/internal/engine firewall/prove
cmd/xfrmfw/internal/proof: cmd/xfrmfw/internal/text firewall firewall/foreign firewall/prove firewall/prove/evaluate firewall/rules firewall/rules/live firewall/sets xfrm golang.org/x/sys
cmd/xfrmfw/internal/rundir: golang.org/x/sys
cmd/xfrmfw/internal/screen: golang.org/x/sys
cmd/xfrmfw/internal/status: firewall firewall/sets/purpose firewall/guard firewall/rules firewall/rules/live firewall/rules/plan xfrm cmd/xfrmfw/internal/text firewall/rules/compile cmd/xfrmfw/internal/engine firewall/sets firewall/sets/program
cmd/xfrmfw/internal/status/gather: firewall/foreign firewall/iptables cmd/xfrmfw/internal/doctor cmd/xfrmfw/internal/doctor/gather cmd/xfrmfw/internal/gateway cmd/xfrmfw/internal/peers cmd/xfrmfw/internal/rundir cmd/xfrmfw/internal/status cmd/xfrmfw/internal/pending firewall/rules/live firewall/sets/program xfrm
cmd/xfrmfw/internal/text:
cmd/xfrmfw/internal/watch: golang.org/x/sys cmd/xfrmfw/internal/interrupt cmd/xfrmfw/internal/screen cmd/xfrmfw/internal/status
cmd/xfrmfw/internal/worker: cmd/xfrmfw/internal/gateway golang.org/x/sys
cmd/xfrmfw/man:
test:
test/bench: xfrm xfrm/kernel firewall firewall/decide firewall/nftables firewall/sets firewall/sets/program firewall/rules firewall/rules/live firewall/rules/plan firewall/rules/trace github.com/vishvananda/netlink golang.org/x/sys firewall/rules/accept firewall/rules/compile
test/e2e:
test/ike:
test/faults: golang.org/x/sys
test/coexist:
test/operator:
test/soak:
test/lab: golang.org/x/sys
test/manual:
test/prometheus: test/lab github.com/goccy/go-yaml
test/packages: test/lab
test/systemd: golang.org/x/sys
`

func TestImportsGoOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	mayImport := make(map[string][]string)
	for line := range strings.Lines(strings.TrimSpace(allowed)) {
		name, imports, _ := strings.Cut(line, ":")
		mayImport[name] = strings.Fields(imports)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		words := strings.Fields(line)
		name := strings.TrimPrefix(strings.TrimPrefix(words[0], module), "/")
		may, known := mayImport[name]
		if !known {
			t.Errorf("%s: a new package: say here what it may import", name)
		}
		for _, imported := range words[1:] {
			ours, isOurs := strings.CutPrefix(imported, module+"/")
			if !isOurs && !strings.Contains(strings.Split(imported, "/")[0], ".") {
				continue
			}
			if !slices.ContainsFunc(may, func(m string) bool {
				return ours == m || strings.HasPrefix(ours, m+"/") && !strings.HasPrefix(m, "firewall") && m != "xfrm"
			}) {
				t.Errorf("%s imports %s", name, ours)
			}
		}
	}
}
