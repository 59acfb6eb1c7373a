package iptables

import (
	"context"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TestKernelHas asks the kernel for an extension of each kind, and for some that no kernel has.
func TestKernelHas(t *testing.T) {
	each(t, func(t *testing.T, p *Programs, family xfrm.Family) {
		open := askLegacy
		if p.Variant() == NFT {
			open = askNFT
		}
		ask, err := open(family)
		if err != nil {
			t.Fatal(err)
		}
		defer ask.close()
		for name, target := range map[string]bool{"policy": false, "mark": false, "conntrack": false, "MARK": true, "TCPMSS": true} {
			if !ask.has(name, target) {
				t.Errorf("the kernel has no %s", name)
			}
			if ask.has(name, !target) {
				t.Errorf("the kernel takes %s for a target as well as a match", name)
			}
		}
		for _, name := range []string{"nosuch", strings.Repeat("x", 28)} {
			if ask.has(name, false) || ask.has(name, true) {
				t.Errorf("the kernel has %q", name)
			}
		}
	})
}

// TestLacksNothing: the kernel and programs that can take all rules lack nothing, and asking them changes no rule.
func TestLacksNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, p *Programs) {
		before := printed(t, p, xfrm.IPv4) + printed(t, p, xfrm.IPv6)
		if got := p.Lacks(t.Context(), true); len(got) != 0 {
			t.Errorf("lacking: %v", got)
		}
		if after := printed(t, p, xfrm.IPv4) + printed(t, p, xfrm.IPv6); after != before {
			t.Errorf("asking has changed the rules:\n%s", cmp.Diff(before, after))
		}
	})
}

// TestTrial: nf_tables judges the whole trial, has all of it, and keeps nothing.
func TestTrial(t *testing.T) {
	eachVariant(t, func(t *testing.T, p *Programs) {
		for _, family := range p.Families() {
			if got := trial(family); got != 0 {
				t.Errorf("%s: lacking: %s", family, got)
			}
			if got := trial(family); got != 0 {
				t.Errorf("%s, again: lacking: %s", family, got)
			}
		}
	}, NFT)
}

// parser is a fake iptables-restore --test that lacks the extensions of some names.
func parser(lacks string) runner {
	return func(_ context.Context, _ time.Duration, stdin string, _ io.Writer, _ string, args ...string) (string, error) {
		if !strings.Contains(strings.Join(args, " "), "--test") {
			return "", errors.New("was to commit something")
		}
		for i, line := range strings.Split(stdin, "\n") {
			for _, name := range strings.Fields(lacks) {
				if strings.Contains(line, "-m "+name+" ") {
					return "iptables-restore v1.8.9 (legacy): Couldn't load match `" + name + "':No such file or directory\n\nError occurred at line: " + string(rune('0'+i+1)), errors.New("exit status 2")
				}
				if strings.Contains(line, "-j "+name+" ") {
					return "iptables-nft-restore v1.8.9 (nf_tables): unknown option \"--x\"\nError occurred at line: " + string(rune('0'+i+1)), errors.New("exit status 2")
				}
				if strings.HasPrefix(line, "*"+name) {
					return "iptables-restore v1.8.9 (legacy): can't initialize iptables table `" + name + "': Table does not exist", errors.New("exit status 3")
				}
			}
		}
		return "", nil
	}
}

func TestLacks(t *testing.T) {
	const conntrack, log, limit, nat = rules.FeatureConntrack, rules.FeatureLog, rules.FeatureLimit, rules.FeatureNAT
	for _, tt := range []struct {
		name     string
		variant  Variant
		kernel   rules.Features
		programs string
		want     rules.Features
	}{
		{"nothing", NFT, 0, "", 0},
		{"a module", NFT, log, "", log},
		{"extensions of the program", NFT, 0, "conntrack limit REJECT", conntrack | limit | rules.FeatureReject},
		{"both", Legacy, log, "limit", log | limit},
		{"no nat without conntrack", Legacy, conntrack, "nat", conntrack | nat},
		{"nat without conntrack", Legacy, conntrack, "", conntrack},
		{"nat is not asked for", Legacy, log, "nat", log},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			_, p := newHost()
			p.variant, p.run = tt.variant, parser(tt.programs)
			p.kernelLacks = func(v Variant, _ xfrm.Family) rules.Features {
				asked++
				if v != tt.variant {
					t.Errorf("asked as %s", v)
				}
				return tt.kernel
			}
			want := map[xfrm.Family]rules.Features{xfrm.IPv4: tt.want, xfrm.IPv6: tt.want}
			if tt.want == 0 {
				clear(want)
			}
			for range 2 {
				if got := p.Lacks(t.Context(), true); !maps.Equal(got, want) {
					t.Errorf("lacks %v, want %v", got, want)
				}
			}
			// Once per family if all is there, and each time as long as something is lacking.
			if again := map[bool]int{true: 2, false: 4}[tt.kernel == 0]; asked != again {
				t.Errorf("the kernel was asked %d times, want %d", asked, again)
			}
			// A module that was loaded meanwhile.
			tt.kernel, p.run = 0, parser("")
			if got := p.Lacks(t.Context(), true); len(got) != 0 {
				t.Errorf("after all was loaded it lacks %v", got)
			}
		})
	}
}

// TestLearn: a commit that was refused names the feature that is lacking, once, and only
// if rules can do without it.
func TestLearn(t *testing.T) {
	text := "*mangle\n:XFRMFW-A - [0:0]\n-A XFRMFW-A -m conntrack --ctstate RELATED -j ACCEPT\n-A XFRMFW-A -m limit --limit 1/second -j LOG --log-prefix x\n-A XFRMFW-A -m policy --dir in --pol ipsec\nCOMMIT\n"
	exit := errors.New("exit status 2")
	for _, tt := range []struct {
		name, text, stderr string
		has                words
		want               rules.Features
	}{
		{"match of the program", text, "iptables-restore v1.8.9 (legacy): Couldn't load match `conntrack':No such file or directory\n\nError occurred at line: 3", nil, rules.FeatureConntrack},
		{"target of iptables-nft", text, "iptables-nft-restore v1.8.9 (nf_tables): Chain 'LOG' does not exist\nError occurred at line: 6", nil, rules.FeatureLimit | rules.FeatureLog},
		{"module of legacy", text, "iptables-restore: line 6 failed", words{"-m conntrack": true, "-m limit": true, "-m policy": true}, rules.FeatureLimit | rules.FeatureLog},
		{"nothing to do without", text, "iptables-restore v1.8.9 (legacy): Couldn't load match `policy':No such file or directory\n\nError occurred at line: 5", nil, 0},
		{"gone underneath", text, "iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (No such file or directory): rule in chain XFRMFW-A", nil, 0},
		{"no table", "*nat\n:XFRMFW-NAT - [0:0]\nCOMMIT\n", "iptables-nft-restore v1.8.9 (nf_tables): \nline 1: CHAIN_ADD failed (Operation not supported): chain POSTROUTING", nil, rules.FeatureNAT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &Programs{families: map[xfrm.Family]program{xfrm.IPv4: {}}, run: parser(""), kernelLacks: func(Variant, xfrm.Family) rules.Features { return 0 }}
			err := &ApplyError{Err: restoreError(xfrm.IPv4, tt.text, tt.stderr, exit, func(xfrm.Family) words { return tt.has })}
			if got := p.Learn(t.Context(), err); got != (tt.want != 0) {
				t.Errorf("learned %v: %v", got, err)
			}
			if p.Learn(t.Context(), err) {
				t.Error("learns the same twice")
			}
			if got := p.Lacks(t.Context(), true)[xfrm.IPv4]; got != tt.want {
				t.Errorf("lacks %s, want %s", got, tt.want)
			}
		})
	}
}
