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
				Severity: Warning, Seen: fmt.Sprintf("nftables table %s %s, chain %s: rule %d writes our bits %#x of the mark", t.Family, t.Name, m.Chain, m.Handle, m.Writes&both),
				Breaks: "it clears them: what it meets after our rules is no longer known as verified to other firewalls",
				Mend:   []string{fmt.Sprintf("# let it write its own bits only: meta mark set meta mark & %#x | VALUE", both)},
			}
			if m.Sets&both != 0 {
				f.Severity = Error
				f.Breaks = "it can set them on what came out of no tunnel; xfrmfw clears them again where the kernel knows of no state, but not behind this rule"
			}
			found = append(found, f)
		}
	}
	return found
}
