package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// foreign are rules of other programs for a table: n of them, in chains of their own and in a builtin one, with counters,
// and with comments that have to be quoted.
func foreign(table, builtin string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n:OTHERS - [0:0]\n:OTHERS-XFRMFW - [0:0]\n:EMPTY - [0:0]\n", table)
	for i := range n {
		chain := [...]string{builtin, "OTHERS", "OTHERS-XFRMFW"}[i%3]
		comment := [...]string{
			`plain`, `two words`, `\"quoted\" \\ and 'single'`, `$(x) ; | # *mangle`, `-A INPUT -j XFRMFW-IN`, `xfrmfw:not/ours`,
		}[i%6]
		fmt.Fprintf(&b, "[%d:%d] -A %s -p tcp -m tcp --dport %d -m comment --comment \"%s\" -j %s\n",
			i+1, 100*(i+1), chain, 20000+i, comment, [...]string{"ACCEPT", "RETURN", "OTHERS"}[i%3])
	}
	fmt.Fprintf(&b, "[0:0] -A %s -p tcp -m tcp --dport 9 -j OTHERS\nCOMMIT\n", builtin)
	return b.String()
}

// counted are all rules of both families with their counters; those of builtin chains, which count any packet and which
// legacy programs set to zero, are left out.
func counted(t *testing.T, h *lab.Host) string {
	t.Helper()
	var b strings.Builder
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		for _, line := range strings.Split(h.Run(t, program, "-c"), "\n") {
			if strings.HasPrefix(line, ":") {
				line, _, _ = strings.Cut(line, " [")
			}
			if line != "" && !strings.HasPrefix(line, "#") {
				b.WriteString(line + "\n")
			}
		}
	}
	return b.String()
}

// withoutOurs leaves out our chains, rules and jumps.
func withoutOurs(saved string) string {
	var b strings.Builder
	for _, line := range strings.SplitAfter(saved, "\n") {
		if !strings.HasPrefix(line, ":XFRMFW-") && !strings.Contains(line, "-A XFRMFW-") && !strings.Contains(line, "/jump\" -j XFRMFW-") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// difference is the first line in which two texts differ.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := 0; i < max(len(g), len(w)); i++ {
		one, other := "(end)", "(end)"
		if i < len(g) {
			one = g[i]
		}
		if i < len(w) {
			other = w[i]
		}
		if one != other {
			return fmt.Sprintf("line %d is %s, want %s", i+1, one, other)
		}
	}
	return ""
}

// TestClearLeavesNothing is that apply and clear touch nothing that is not ours, and that
// clear restores the rules from before.
func TestClearLeavesNothing(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{})
	n.Up(t, lab.IPsec{Inner: lab.IPv6, Reqid: 12})
	sun := n.Sun
	for _, program := range []string{"iptables-restore", "ip6tables-restore"} {
		for table, rules := range map[string]int{"filter": 80, "mangle": 60, "nat": 40, "raw": 20} {
			builtin := map[string]string{"filter": "FORWARD", "mangle": "FORWARD", "nat": "POSTROUTING", "raw": "PREROUTING"}[table]
			sun.RunInput(t, foreign(table, builtin, rules), program, "-w", "10", "--noflush", "--counters")
		}
	}
	before := counted(t, sun)
	if got := strings.Count(before, "-A "); got < 400 {
		t.Fatalf("%d foreign rules, want 200 a family", got)
	}
	untouched := func(when, want string) {
		t.Helper()
		if d := difference(withoutOurs(counted(t, sun)), want); d != "" {
			t.Errorf("%s: foreign rules: %s", when, d)
		}
	}
	sun.MustXfrmfw(t, "apply")
	untouched("apply", before)
	sun.Ping(t, n.Moon.Inner(lab.IPv4), 2)

	// Somebody puts rules before ours, and the tunnels change: ours move back to their place.
	for _, f := range lab.Families {
		sun.Iptables(t, f, "-t", "mangle", "-I", "FORWARD", "-p", "tcp", "--dport", "10", "-m", "comment", "--comment", "in front", "-j", "RETURN")
		sun.Iptables(t, f, "-I", "INPUT", "-p", "tcp", "--dport", "10", "-m", "comment", "--comment", "in front", "-j", "RETURN")
	}
	meanwhile := withoutOurs(counted(t, sun))
	n.Up(t, lab.IPsec{Reqid: 13, MoonNets: prefixes("10.1.3.0/24")})
	sun.MustXfrmfw(t, "apply")
	inSync(t, sun)
	untouched("apply with a rule in front", meanwhile)
	for _, f := range lab.Families {
		if got := strings.SplitN(sun.Iptables(t, f, "-t", "mangle", "-S", "FORWARD"), "\n", 3)[1]; !strings.Contains(got, "-j XFRMFW-FWD") {
			t.Errorf("%v: the first rule of mangle FORWARD is %s, want our jump", f, got)
		}
	}

	if out := sun.MustXfrmfw(t, "clear"); !strings.HasPrefix(out, "cleared: ") {
		t.Errorf("clear says %q", out)
	}
	for _, f := range lab.Families {
		sun.Iptables(t, f, "-t", "mangle", "-D", "FORWARD", "1")
		sun.Iptables(t, f, "-D", "INPUT", "1")
	}
	if d := difference(counted(t, sun), before); d != "" {
		t.Errorf("after clear: %s", d)
	}
	if out := sun.MustXfrmfw(t, "clear"); !strings.HasPrefix(out, "nothing to clear") {
		t.Errorf("a second clear says %q", out)
	}

	// A host without any rule has none after clear: at most tables with nothing in them.
	moon := n.Moon
	moon.MustXfrmfw(t, "apply")
	if !strings.Contains(saves(t, moon), "XFRMFW-") {
		t.Fatal("apply wrote no rules on moon")
	}
	moon.MustXfrmfw(t, "clear")
	for _, line := range strings.Split(strings.TrimSpace(saves(t, moon)), "\n") {
		if line != "" && !strings.HasPrefix(line, "*") && line != "COMMIT" && !strings.HasSuffix(line, " ACCEPT [0:0]") {
			t.Errorf("left on moon after clear: %s", line)
		}
	}
}
