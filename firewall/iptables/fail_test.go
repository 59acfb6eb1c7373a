package iptables

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// accepts is a rule set with a jump in mangle and one in filter.
func accepts(family xfrm.Family, tunnels ...string) rules.Ruleset {
	rs := stack(family, tunnels...)
	rs.Chains = append(rs.Chains, rules.Chain{Table: rules.Filter, Name: "XFRMFW-IN", Rules: rs.Chains[0].Rules})
	rs.Hooks = append(rs.Hooks, rules.Hook{Table: rules.Filter, From: "INPUT", To: "XFRMFW-IN"})
	return rs
}

// TestApplyRollsBack: when the last commit is refused, those before it are undone.
func TestApplyRollsBack(t *testing.T) {
	for _, tt := range []struct {
		name, rule string
		// line is that of the rule, or 0 where nothing can name it.
		line int
		kind error
	}{
		{"syntax", "-A XFRMFW-IN --nonsense", 3, nil},
		{"no such match", "-A XFRMFW-IN -m nosuch -j ACCEPT", 3, ErrUnsupported},
		{"no such chain", "-A XFRMFW-NOPE -j ACCEPT", 3, nil},
		{"jump to nowhere", "-A XFRMFW-IN -j XFRMFW-NOPE", 3, nil},
		{"kernel refuses", "-A XFRMFW-IN -m policy --dir out --pol none -j ACCEPT", 0, nil},
		{"loop", "-A XFRMFW-IN -j XFRMFW-IN", 0, nil},
		{"rule gone", "-D INPUT -j XFRMFW-IN", 3, ErrChanged},
		{"chain gone", "-X XFRMFW-NOPE", 3, ErrChanged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var variants []Variant
			if tt.name == "kernel refuses" {
				// nftables asks a policy match for its hook in builtin chains only.
				variants = []Variant{Legacy}
			}
			each(t, func(t *testing.T, p *Programs, family xfrm.Family) {
				fill(t, p, family)
				mustApply(t, p, planFor(t, p, accepts(family, "a")))
				before := printed(t, p, family)
				change := planFor(t, p, accepts(family, "b", "c"))
				if len(change.Steps) != 2 {
					t.Fatalf("%d steps", len(change.Steps))
				}
				bad := strings.SplitAfterN(change.Steps[1].Text, "\n", 3)
				change.Steps[1].Text = bad[0] + bad[1] + tt.rule + "\n" + bad[2]
				err := p.Apply(t.Context(), change)
				t.Log(err)
				var applied *ApplyError
				if !errors.As(err, &applied) || applied.Standing != Former || applied.Rollback != nil {
					t.Fatalf("got %#v", err)
				}
				var restored *RestoreError
				if !errors.As(err, &restored) || restored.Table != rules.Filter || restored.Family != family {
					t.Fatalf("got %#v", err)
				}
				if tt.line > 0 && (restored.Line != tt.line || restored.Text != tt.rule) {
					t.Errorf("line %d: %s", restored.Line, restored.Text)
				}
				if tt.kind != nil && !errors.Is(err, tt.kind) {
					t.Errorf("is not %q", tt.kind)
				}
				if diff := cmp.Diff(before, printed(t, p, family)); diff != "" {
					t.Errorf("(-before +after):\n%s", diff)
				}
				// The next attempt is as if nothing had happened.
				mustApply(t, p, planFor(t, p, accepts(family, "b", "c")))
			}, variants...)
		})
	}
}

// TestApplyChangedUnderneath: someone takes our jump away between the reading
// and the writing.
func TestApplyChangedUnderneath(t *testing.T) {
	each(t, func(t *testing.T, p *Programs, family xfrm.Family) {
		mustApply(t, p, planFor(t, p, accepts(family, "a")))
		change, err := plan.Clear(map[xfrm.Family]live.Tables{family: mustSave(t, p, family)})
		if err != nil {
			t.Fatal(err)
		}
		mustRestore(t, p, family, "*mangle\n-F FORWARD\nCOMMIT\n")
		err = p.Apply(t.Context(), change)
		t.Log(err)
		if !errors.Is(err, ErrChanged) {
			t.Fatalf("got %v", err)
		}
		var applied *ApplyError
		if !errors.As(err, &applied) || applied.Standing != Mixed || len(applied.Done) != 0 {
			t.Errorf("got %#v", applied)
		}
		s := mustSave(t, p, family)
		if _, ok := s.Table(rules.Filter).Chain("XFRMFW-IN"); !ok {
			t.Error("filter, which was cleared first, has not been rolled back")
		}
	})
}

// TestLocked: a lock that another holds is told from other failures, and after
// the deadline the program is not left behind.
func TestLocked(t *testing.T) {
	each(t, func(t *testing.T, p *Programs, family xfrm.Family) {
		mustApply(t, p, planFor(t, p, accepts(family, "a")))
		before := printed(t, p, family)
		change := planFor(t, p, accepts(family, "b"))
		file, err := os.OpenFile(os.Getenv("XTABLES_LOCKFILE"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		err = p.Apply(t.Context(), change)
		t.Log(err)
		var applied *ApplyError
		if !errors.Is(err, ErrLocked) || !errors.As(err, &applied) || applied.Standing != Former {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		err = p.Apply(ctx, change)
		t.Log(err)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if diff := cmp.Diff(before, printed(t, p, family)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	}, Legacy) // the nft variant takes no lock
}

// TestKilled: a program that hangs is killed with its children, and the rules that stand
// are read, not supposed.
func TestKilled(t *testing.T) {
	each(t, func(t *testing.T, p *Programs, family xfrm.Family) {
		mustApply(t, p, planFor(t, p, accepts(family, "a")))
		before := printed(t, p, family)
		change := planFor(t, p, accepts(family, "b"))
		real := p.families[family]
		for _, tt := range []struct{ name, script string }{
			{"before the commit", "true"},
			{"after the commit", real.restore + ` "$@"`},
		} {
			t.Run(tt.name, func(t *testing.T) {
				// The first program run hangs; those of the way back don't.
				dir := t.TempDir()
				script := filepath.Join(dir, "restore")
				text := "#!/bin/sh\nif mkdir " + dir + "/once 2>/dev/null; then " + tt.script + "; sleep 600 & mkdir " + dir + "/hangs; wait; else exec " + real.restore + ` "$@"; fi` + "\n"
				if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
				hung := real
				hung.restore = script
				p.families[family] = hung
				defer func() { p.families[family] = real }()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				go func() { // its time is over as soon as it hangs
					for ctx.Err() == nil {
						if _, err := os.Stat(filepath.Join(dir, "hangs")); err == nil {
							cancel(context.DeadlineExceeded)
						}
						time.Sleep(5 * time.Millisecond)
					}
				}()
				start := time.Now()
				err := p.Apply(ctx, change)
				t.Log(err)
				var applied *ApplyError
				if !errors.As(err, &applied) || applied.Standing != Former || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %#v", err)
				}
				if time.Since(start) > time.Minute {
					t.Errorf("took %v", time.Since(start))
				}
				if diff := cmp.Diff(before, printed(t, p, family)); diff != "" {
					t.Errorf("(-before +after):\n%s", diff)
				}
			})
		}
	})
}

// TestOther: the rules of the other variant are seen from this one.
func TestOther(t *testing.T) {
	eachVariant(t, func(t *testing.T, p *Programs) {
		other, err := Find(t.Context(), Options{Variant: p.variant.other()})
		if err != nil {
			lab.Lacking(t, "netns", err.Error())
		}
		flush(t, other)
		defer flush(t, other)
		rival, err := p.Other(t.Context())
		if err != nil || rival.Rules != 0 || rival.Variant != other.variant {
			t.Errorf("got %+v, %v", rival, err)
		}
		mustApply(t, other, planFor(t, other, stack(xfrm.IPv6, "a")))
		mustRestore(t, other, xfrm.IPv4, "*mangle\n-A INPUT -j MARK --set-xmark 0x1/0x1\nCOMMIT\n")
		rival, err = p.Other(t.Context())
		want := Rival{other.variant, []string{"ipv6 mangle XFRMFW-FWD"}, 3, []string{"ipv4 mangle INPUT -j MARK --set-xmark 0x1/0x1"}, rival.Live}
		if _, ok := rival.Live[xfrm.IPv4].Table(rules.Mangle).Chain("INPUT"); !ok {
			t.Errorf("the rules of %s are not among %v", other.variant, rival.Live)
		}
		if diff := cmp.Diff(want, rival, cmpopts.IgnoreUnexported(live.Table{}, live.Chain{})); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}

// TestJumpsStand: the effect of a foreign insert on our jumps is seen at small cost.
func TestJumpsStand(t *testing.T) {
	each(t, func(t *testing.T, p *Programs, family xfrm.Family) {
		rs := accepts(family, "a")
		stand := func(want bool) {
			t.Helper()
			if got, err := p.JumpsStand(rs); err != nil || got != want {
				t.Errorf("got %v, %v", got, err)
			}
		}
		stand(false)
		mustApply(t, p, planFor(t, p, rs))
		stand(true)
		mustRestore(t, p, family, "*filter\n-I INPUT -j ACCEPT\nCOMMIT\n")
		stand(false)
		mustApply(t, p, planFor(t, p, rs))
		stand(true)
		if s := fake.Differs(rs, mustSave(t, p, family)); s != "" {
			t.Error(s)
		}
	})
}
