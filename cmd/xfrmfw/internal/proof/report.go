// Package proof checks rule sets for the properties that must hold for all packets, and
// reports the results.
package proof

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/firewall/prove"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Schema is the version of the JSON form. Keys may be added to it, never changed or
// removed.
const Schema = 1

// Subject is rule sets to ask: the wanted ones, or those that stand.
type Subject struct {
	// Name is "wanted" or "live".
	Name string
	// Rules are those of iptables. Without them the table of nftables decides alone.
	Rules []rules.Ruleset
	// Table stands beside rules, and may be empty then.
	Table sets.Table
	// Others are the rules and chains of other programs that stand around them.
	Others map[xfrm.Family][]live.Other
}

// Stands reports whether packets meet the subject at all.
func (s Subject) Stands() bool {
	return len(s.Table.Chains) > 0 || slices.ContainsFunc(s.Rules, func(rs rules.Ruleset) bool { return len(rs.Hooks) > 0 })
}

// Beside returns the subject with tables of nftables of other programs, and rules of theirs in
// a program of iptables that is not in use. Saved are the tables of iptables-nft.
func (s Subject) Beside(tables foreign.Ruleset, saved, rival map[xfrm.Family]live.Tables, program string, m firewall.Marks) Subject {
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		others := live.Apart(live.Others(family, rival[family]), program)
		if others = append(others, prove.Chains(tables, family, saved[family], m)...); len(others) > 0 {
			s.Others[family] = append(s.Others[family], others...)
		}
	}
	return s
}

// jobs are the proofs of a subject, one for each family and way.
func (s Subject) jobs(f *firewall.Facts, in firewall.Input) []job {
	var jobs []job
	more := prove.Values(in)
	for _, others := range s.Others {
		more.Add(evaluate.OthersValues(others))
	}
	add := func(family xfrm.Family, make func() *evaluate.Firewall) {
		for _, way := range prove.Ways() {
			jobs = append(jobs, job{subject: s.Name, family: family, way: way, others: s.Others[family], make: make})
		}
	}
	for _, rs := range s.Rules {
		add(rs.Family, func() *evaluate.Firewall { return evaluate.NewBeside(rs, s.Table, f, more) })
	}
	if s.Rules != nil {
		return jobs
	}
	families := []xfrm.Family{xfrm.IPv4, xfrm.IPv6}
	if f.NoIPv6 {
		families = families[:1]
	}
	for _, family := range families {
		add(family, func() *evaluate.Firewall { return evaluate.NewTable(s.Table, family, f, more, false) })
	}
	return jobs
}

// Report is the outcome of a proof, in the shape of its JSON form. Lists are never nil.
type Report struct {
	Schema int `json:"schema"`
	// Holds is true if all properties hold for all rules.
	Holds bool `json:"holds"`
	// Rules are the names of the rules that were asked, such as "wanted ipv4".
	Rules      []string   `json:"rules"`
	Properties []Property `json:"properties"`
	Findings   []Finding  `json:"findings"`
	Warnings   []string   `json:"warnings"`
}

// Property is a sentence about all packets.
type Property struct {
	Name   string   `json:"name"`
	Says   string   `json:"says"`
	Exempt []string `json:"exempt"`
	Holds  bool     `json:"holds"`
}

// Finding is a property that does not hold, with a packet that breaks it.
type Finding struct {
	Property string `json:"property"`
	// Rules are "wanted" or "live".
	Rules  string      `json:"rules"`
	Family xfrm.Family `json:"family"`
	// By are the rules and base chains of other programs that break the property.
	By []string `json:"by"`
	// Packet says all of it; Explain is the command that explains it, as far as its words
	// go.
	Packet  string `json:"packet"`
	Explain string `json:"explain"`
}

// atOnce is how many proofs run at once: two make use of a small gateway's processors, and
// more would need more memory.
const atOnce = 2

// Make asks all subjects. In is the host as it was read; Make
// calls progress, which must be safe for concurrent use, with the number of steps done
// and of all.
func Make(f *firewall.Facts, in firewall.Input, subjects []Subject, progress func(done, all int)) Report {
	r := Report{Schema: Schema, Holds: true, Rules: []string{}, Findings: []Finding{}, Warnings: []string{}}
	var jobs []job
	for _, s := range subjects {
		for _, j := range s.jobs(f, in) {
			jobs = append(jobs, j)
			if name := fmt.Sprintf("%s %s", s.Name, j.family); !slices.Contains(r.Rules, name) {
				r.Rules = append(r.Rules, name)
			}
		}
	}
	var lock sync.Mutex
	done := 0
	step := func() {
		lock.Lock()
		defer lock.Unlock()
		done++
		progress(done, len(jobs)*prove.Steps())
	}
	var group sync.WaitGroup
	work := make(chan *job, len(jobs))
	for _, first := range []bool{true, false} { // the longest first, so that none is left to one processor
		for i := range jobs {
			if first == (jobs[i].way == firewall.Through) {
				work <- &jobs[i]
			}
		}
	}
	close(work)
	for range atOnce {
		group.Go(func() {
			for j := range work {
				w := j.make()
				j.found = prove.ProveOn(j.way, w, f, in, j.others, step)
				j.odd = w.Odd()
			}
		})
	}
	group.Wait()
	broken := make(map[string]bool)
	for _, j := range jobs {
		if j.odd != nil {
			r.Holds = false
		}
		if j.odd != nil && !slices.Contains(r.Warnings, j.odd.Error()) {
			r.Warnings = append(r.Warnings, j.odd.Error())
		}
		for _, found := range j.found {
			broken[found.Property.Name] = true
			r.Holds = false
			r.Findings = append(r.Findings, Finding{
				Property: found.Property.Name, Rules: j.subject, Family: found.Family, By: append([]string{}, found.By...),
				Packet: prove.Describe(found.Packet), Explain: Explain(found.Packet, f.Marks),
			})
		}
	}
	for _, p := range prove.Properties() {
		r.Properties = append(r.Properties, Property{Name: p.Name, Says: p.Says, Exempt: append([]string{}, p.Exempt...), Holds: !broken[p.Name]})
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Rules, a.Rules), cmp.Compare(a.Family, b.Family))
	})
	return r
}

type job struct {
	subject string
	family  xfrm.Family
	way     firewall.Way
	others  []live.Other
	make    func() *evaluate.Firewall
	found   []prove.Finding
	odd     error
}

// WriteText writes the report for a person: the answer first. Verbose names each property
// with the packets that it leaves out.
func (r Report) WriteText(w io.Writer, verbose bool) error {
	var b strings.Builder
	failed := 0
	for _, p := range r.Properties {
		if !p.Holds {
			failed++
		}
	}
	of := strings.Join(r.Rules, ", ")
	if r.Holds {
		fmt.Fprintf(&b, "proved: all %d properties hold for all packets (%s)\n", len(r.Properties), of)
	} else {
		fmt.Fprintf(&b, "not proved: %d of %d properties fail (%s)\n", failed, len(r.Properties), of)
	}
	for _, p := range r.Properties {
		if p.Holds && !verbose {
			continue
		}
		word := "holds"
		if !p.Holds {
			word = "FAILS"
		}
		fmt.Fprintf(&b, "\n%s  %s: %s\n", word, p.Name, p.Says)
		if verbose {
			for _, e := range p.Exempt {
				fmt.Fprintf(&b, "  but for  %s\n", e)
			}
		}
		for _, f := range r.Findings {
			if f.Property == p.Name {
				fmt.Fprintf(&b, "  packet   %s, by the %s rules\n", f.Packet, f.Rules)
				for _, rule := range f.By {
					fmt.Fprintf(&b, "  through  %s of another program (%s)\n", rule, f.Family)
				}
				fmt.Fprintf(&b, "  see      %s\n", f.Explain)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
