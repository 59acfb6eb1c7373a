package iptables

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// support is the known features that the kernel and the programs lack.
type support struct {
	mu sync.Mutex
	// asked and parsed tell that the kernel and the programs were asked.
	asked, parsed bool
	// kernel and programs are the features that each lacks, learned those that a refused commit showed.
	kernel, programs, learned map[xfrm.Family]rules.Features
}

// Lacks returns the features that are known to be lacking, by family. It asks the
// kernel, the first time and then as long as it lacks any, since a module can be
// loaded. A question that can't be asked counts as answered with yes: a commit will
// then tell. With parse it also has the programs parse rules; a caller that commits
// leaves that to Learn, because each is a process to start. No rule is written.
func (p *Programs) Lacks(ctx context.Context, parse bool) map[xfrm.Family]rules.Features {
	s := &p.support
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked || len(s.kernel) > 0 {
		s.asked, s.kernel = true, p.eachFamily(func(family xfrm.Family) rules.Features {
			return p.kernelLacks(p.variant, family)
		})
	}
	if parse && !s.parsed || len(s.programs) > 0 {
		p.parseAll(ctx)
	}
	return p.eachFamily(func(family xfrm.Family) rules.Features {
		return s.kernel[family] | s.programs[family] | s.learned[family]
	})
}

// parseAll asks the programs of all families, under the lock of support.
func (p *Programs) parseAll(ctx context.Context) {
	p.support.parsed, p.support.programs = true, p.eachFamily(func(family xfrm.Family) rules.Features {
		return p.programLacks(ctx, family)
	})
}

// eachFamily collects the features that lacks returns, where there are any.
func (p *Programs) eachFamily(lacks func(xfrm.Family) rules.Features) map[xfrm.Family]rules.Features {
	all := make(map[xfrm.Family]rules.Features)
	for _, family := range p.Families() {
		if f := lacks(family); f != 0 {
			all[family] = f
		}
	}
	return all
}

// Learn finds out for want of which feature a commit was refused. It reports
// whether there is one that was not known to be lacking, so that another attempt
// without it may succeed.
func (p *Programs) Learn(ctx context.Context, err error) bool {
	var refused *RestoreError
	if !errors.As(err, &refused) || !errors.Is(refused, ErrUnsupported) {
		return false
	}
	f := featuresIn(refused.Text, refused.Family)
	if f == 0 && refused.Table == rules.NAT {
		f = rules.FeatureNAT
	}
	s := &p.support
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.kernel[refused.Family] | s.programs[refused.Family] | s.learned[refused.Family]
	if f == 0 || f&^known == 0 {
		return false
	}
	// One that the programs don't parse is seldom alone.
	if p.parseAll(ctx); f&^s.programs[refused.Family] == 0 {
		return true
	}
	if s.learned == nil {
		s.learned = make(map[xfrm.Family]rules.Features)
	}
	s.learned[refused.Family] |= f
	return true
}

// featuresIn returns the features that a line of iptables-restore uses.
func featuresIn(line string, family xfrm.Family) rules.Features {
	var found rules.Features
	for _, f := range rules.AllFeatures.All() {
		switch e := f.Extension(family); {
		case e.Kind == "match" && hasWords(line, "-m", e.Name), e.Kind == "target" && hasWords(line, "-j", e.Name):
			found |= f
		}
	}
	return found
}

// kernelLacks asks the kernel which features it has, as the programs of a variant
// use them.
func kernelLacks(variant Variant, family xfrm.Family) rules.Features {
	open := askLegacy
	if variant == NFT {
		open = askNFT
	}
	ask, err := open(family)
	if err != nil {
		return 0
	}
	defer ask.close()
	lacks := rules.Features(0)
	for _, f := range rules.AllFeatures.All() {
		e := f.Extension(family)
		if e.Kind != "table" && !ask.has(e.Name, e.Kind == "target") {
			lacks |= f
		}
	}
	const native = rules.FeatureLimit | rules.FeatureNFLog
	if variant == NFT && lacks&(native|rules.FeatureConntrack) != 0 {
		// Since 1.8.8 iptables-nft says limit and NFLOG in words of nf_tables. The
		// table nat stands and falls with conntrack.
		missing := trial(family)
		lacks = lacks&^native | lacks&native&missing | missing&rules.FeatureNAT
	}
	return lacks
}

// asker asks the kernel for matches and targets by name.
type asker interface {
	has(name string, target bool) bool
	close()
}

// sampleRules are rules that each need one feature, as the programs parse them.
func sampleRules(family xfrm.Family) map[rules.Features]rules.Rule {
	accept := rules.Target{Verb: rules.Accept}
	return map[rules.Features]rules.Rule{
		rules.FeatureConntrack: {Ct: rules.CtMatch{State: rules.CtRelated}, Target: accept},
		rules.FeatureAddrType:  {DstType: rules.Local, Target: accept},
		rules.FeatureRPFilter:  {RPFilterInvert: true, Target: accept},
		rules.FeatureLimit:     {Limit: rules.Limit{PerSecond: 1, Burst: 1}, Target: accept},
		rules.FeatureSCTP:      {Proto: xfrm.SCTP, DPorts: firewall.Port(1), Target: accept},
		rules.FeatureLog:       {Target: rules.Target{Verb: rules.Log, Prefix: "xfrmfw:"}},
		rules.FeatureNFLog:     {Target: rules.Target{Verb: rules.NFLog, Prefix: "xfrmfw:", Group: 1}},
		rules.FeatureTCPMSS:    {Proto: xfrm.TCP, Target: rules.Target{Verb: rules.ClampMSS, Size: 1300}},
		rules.FeatureReject:    {Target: rules.Target{Verb: rules.Reject}},
	}
}

// programLacks has the program of a family parse a rule for each feature, by
// iptables-restore --test, which commits nothing: its extensions are files that can
// be missing. The features without a rule, and those past an error that names no
// line, are taken to be there.
func (p *Programs) programLacks(ctx context.Context, family xfrm.Family) rules.Features {
	const chain = "XFRMFW-PROBE"
	known := p.support.kernel[family]
	lacks := rules.Features(0)
	samples := sampleRules(family)
	for {
		// The order of rules within the text, by line.
		lines := []string{"*filter", ":" + chain + " - [0:0]"}
		at := make(map[int]rules.Features)
		for _, f := range (rules.AllFeatures &^ known &^ lacks).All() {
			rule, ok := samples[f]
			if !ok {
				continue
			}
			lines = append(lines, "-A "+chain+" "+rule.Text(family))
			at[len(lines)] = f
		}
		refused := p.parse(ctx, family, strings.Join(append(lines, "COMMIT"), "\n")+"\n")
		if refused == nil {
			break
		}
		f, ok := at[refused.Line]
		if !ok {
			break
		}
		lacks |= f
	}
	if p.variant == Legacy && (known|lacks)&rules.FeatureConntrack != 0 && !p.hasTable(ctx, family, rules.NAT) {
		lacks |= rules.FeatureNAT
	}
	return lacks
}

// hasTable reports whether iptables-legacy can open a table, which the kernel then
// makes. The kernel has nat wherever it has conntrack, so this is asked only where
// that is lacking.
func (p *Programs) hasTable(ctx context.Context, family xfrm.Family, table rules.Table) bool {
	refused := p.parse(ctx, family, "*"+string(table)+"\nCOMMIT\n")
	return refused == nil || !errors.Is(refused, ErrUnsupported)
}

// parseTimeout is when a program that was to parse is killed: its answer is
// worth no longer wait.
const parseTimeout = 5 * time.Second

// parse has iptables-restore read a text, and commit nothing of it. It returns nil
// too where the program could not be asked.
func (p *Programs) parse(ctx context.Context, family xfrm.Family, text string) *RestoreError {
	stderr, err := p.run(ctx, min(p.options.Timeout, parseTimeout), text, io.Discard, p.families[family].restore,
		"--noflush", "--test", "-w", strconv.Itoa(seconds(p.options.Wait)))
	if err == nil || errors.Is(err, errKilled) || ctx.Err() != nil {
		return nil
	}
	return restoreError(family, text, stderr, err, func(xfrm.Family) words { return nil })
}
