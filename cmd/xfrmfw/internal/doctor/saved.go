package doctor

import "fmt"

// Saved is a file of rules that nftables loads at boot, with rules of this program in it.
// Somebody saved the output of nft list ruleset there.
type Saved struct {
	File string
	// Chains is true if it has chains of the iptables engine, Table if it has table inet
	// xfrmfw.
	Chains, Table bool
}

// saved are such files: one finding for each. nft prints a match of iptables that it
// does not know, such as policy, as "xt match", which it does not read again, or
// translates it into a rule that iptables does not read.
func saved(in Input) []Finding {
	var found []Finding
	for _, s := range in.Saved {
		f := Finding{Severity: Error, Seen: s.File + " holds chains of xfrmfw, as nft list ruleset prints them"}
		f.Breaks = "at the next boot nft refuses the file, and no rule in it is in force; or it loads rules that iptables does not read, and no rule of xfrmfw can be applied"
		if !s.Chains {
			f.Severity, f.Seen = Warning, s.File+" holds xfrmfw's table, as nft list ruleset prints it"
			f.Breaks = "at the next boot the rules of the day on which it was saved are in force until xfrmfw applies its own, and without xfrmfw they stay"
		}
		file := s.File
		if !plain(file) {
			file = "FILE"
		}
		f.Mend = []string{
			fmt.Sprintf("nft -c -f %s    # whether nft still reads it", file),
			"nft list table inet filter    # keep only tables of your own in the file: not ip and ip6 filter, mangle, nat and raw, which are those of iptables, and not xfrmfw",
		}
		found = append(found, f)
	}
	return found
}
