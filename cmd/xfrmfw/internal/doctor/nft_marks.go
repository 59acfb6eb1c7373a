package doctor

import "fmt"

// nftMarks are statements in tables of others that write our bits.
func nftMarks(in Input) []Finding {
	if in.tableDecides() {
		return nil
	}
	var found []Finding
	both := in.Config.Marks.Both()
	for _, t := range in.NFT.Tables {
		for _, m := range t.Marks() {
			if m.Writes&both == 0 {
				continue
			}
			f := Finding{
				Severity: Warning, Seen: fmt.Sprintf("nftables table %s %s, chain %s: rule %d writes bits %#x of the mark, which are those of xfrmfw", t.Family, t.Name, m.Chain, m.Handle, m.Writes&both),
				Breaks: "it clears VERIFIED on packets that it meets after the rules of xfrmfw, so other firewalls do not see the mark",
				Mend:   []string{fmt.Sprintf("# let it write its own bits only: meta mark set meta mark & %#x | VALUE", both)},
			}
			if m.Sets&both != 0 {
				f.Severity = Error
				f.Breaks = "it can set them on cleartext: xfrmfw clears them at its next hook, and until then other firewalls take the packet for tunnel traffic"
			}
			found = append(found, f)
		}
	}
	return found
}
