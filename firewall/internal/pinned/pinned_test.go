// Package pinned holds the restore text of many gateways to its former bytes: a change of
// the code that should change no rule changes no byte here.
//
// After a change that should, look at the difference, then write the new hashes:
//
//	go test ./firewall/internal/pinned -args -texts /tmp/before   # on the former commit
//	go test ./firewall/internal/pinned -args -texts /tmp/after
//	diff -r /tmp/before /tmp/after
//	go test ./firewall/internal/pinned -args -update
package pinned

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

var (
	update = flag.Bool("update", false, "write the hashes of the texts as they are now")
	texts  = flag.String("texts", "", "write the texts to files SEED.txt in this `folder`")
)

// purpose finds the purpose in a rule's comment.
var purpose = regexp.MustCompile(`--comment "?xfrmfw:[^/ ]+/([a-z-]+)`)

const (
	golden = "testdata/restore.sha256"
	seeds  = 200
)

func TestRestoreTextPinned(t *testing.T) {
	var got []string
	seen := make(map[string]bool)
	for seed := range uint64(seeds) {
		text := restoreText(t, seed)
		for _, match := range purpose.FindAllSubmatch(text, -1) {
			seen[string(match[1])] = true
		}
		if *texts != "" {
			if err := os.MkdirAll(*texts, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(*texts, fmt.Sprintf("%03d.txt", seed)), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got = append(got, fmt.Sprintf("%03d %x %d", seed, sha256.Sum256(text), bytes.Count(text, []byte("\n"))))
	}
	if list := missing(seen); len(list) > 0 {
		t.Errorf("no gateway has rules for %v", list)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(strings.Join(got, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	if len(want) != seeds {
		t.Fatalf("%s has %d hashes, of %d texts", golden, len(want), seeds)
	}
	var differ []string
	for i := range want {
		if got[i] != want[i] {
			differ = append(differ, got[i][:3])
		}
	}
	if len(differ) > 0 {
		t.Errorf("the restore text of %d of %d seeds is another: %s; write the texts on both commits with -args -texts FOLDER and compare",
			len(differ), seeds, strings.Join(differ, " "))
	}
}

// restoreText is all that iptables-restore is fed on a host without rules.
func restoreText(t *testing.T, seed uint64) []byte {
	t.Helper()
	s, in := fake.Variety(seed)
	if err := s.Validate(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	result := compile.Compile(in)
	have := make(map[xfrm.Family]live.Tables)
	for _, rs := range result.Rulesets {
		have[rs.Family] = live.Tables{}
	}
	change, err := plan.Make(result.Rulesets, have)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	var text []byte
	for _, step := range change.Steps {
		text = fmt.Appendf(text, "# %s, counters %t\n%s", step.Family, step.Counters, step.Text)
	}
	return text
}

// missing are the purposes that no rule of the texts has.
func missing(seen map[string]bool) []rules.Purpose {
	return slices.DeleteFunc([]rules.Purpose{
		rules.PurposeAcceptIn, rules.PurposeAcceptOut, rules.PurposeCrossed, rules.PurposeDispatch, rules.PurposeDone,
		rules.PurposeExempt, rules.PurposeForeign, rules.PurposeInject, rules.PurposeInjectGuard, rules.PurposeIPComp,
		rules.PurposeLAN, rules.PurposeLeak, rules.PurposeLeakGuard, rules.PurposeLockdown, rules.PurposeLog,
		rules.PurposeMSS, rules.PurposeNAT, rules.PurposeNATKeep, rules.PurposeOpen, rules.PurposeOverlay,
		rules.PurposePierce, rules.PurposePolicyOnly, rules.PurposeReject, rules.PurposeRelated, rules.PurposeReset,
		rules.PurposeRestricted, rules.PurposeService, rules.PurposeSpoof, rules.PurposeSpoofGuard, rules.PurposeStranger,
		rules.PurposeStray, rules.PurposeTag, rules.PurposeUnconfirmed, rules.PurposeUnconfirmedGuard, rules.PurposeUnknown,
		rules.PurposeUntagged, rules.PurposeVerified,
	}, func(p rules.Purpose) bool { return seen[string(p)] })
}
