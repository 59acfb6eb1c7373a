package doctor

import (
	"cmp"
	"slices"
)

// check looks for one kind of finding.
type check struct {
	name string
	find func(Input) []Finding
}

// checks are all there are, in the order in which findings are shown.
func checks() []check {
	return []check{
		{"capabilities", missingCapabilities},
		{"modules", missingModules},
		{"look", failures},
		{"mark-clash", markClash},
		{"rules", outOfSync},
		{"ahead", ahead},
		{"unreadable", unreadable},
		{"foreign-mark", foreignMarks},
		{"two-variants", twoVariants},
		{"nft-drop", nftDrops},
		{"nft-nat", nftNAT},
		{"nft-mark", nftMarks},
		{"raw", rawRules},
		{"saved", saved},
		{"mark-only", markOnly},
		{"denied", denied},
		{"forwarding", forwarding},
		{"disable-policy", disablePolicy},
		{"disable-xfrm", disableXfrm},
		{"rp-filter", reversePath},
		{"send-redirects", redirects},
		{"source-routing", sourceRouting},
		{"flowtable", flowtables},
		{"bridge", bridged},
		{"interface", missingInterfaces},
		{"states-alone", statesAlone},
		{"policies-alone", policiesAlone},
		{"one-family", oneFamily},
		{"any-source", anySource},
		{"offload", offload},
		{"ignored", ignored},
		{"limits", limits},
		{"compiler", compilerWarnings},
		{"decommissioned", decommissioned},
		{"counters", counters},
		{"dropped", dropped},
		{"hook", hookNotWired},
	}
}

// Examine returns all findings, the gravest first.
func Examine(in Input) []Finding {
	found := []Finding{}
	for _, c := range checks() {
		for _, f := range c.find(in) {
			f.Check = c.name
			if f.Mend == nil {
				f.Mend = []string{}
			}
			found = append(found, f)
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	return found
}

// Evident are the findings that need no more than status reads itself, and that
// let tunnel traffic out in clear or past the rules: a line for each.
func Evident(in Input) []string {
	var lines []string
	for _, f := range slices.Concat(ahead(in), nftNAT(in), oneFamily(in), sourceRouting(in), flowtables(in)) {
		if f.Severity != Note {
			lines = append(lines, f.Seen+": "+f.Breaks)
		}
	}
	return lines
}
