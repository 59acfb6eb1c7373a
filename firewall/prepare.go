package firewall

// Prepare finds out of the wanted rules what Plan would have to, so that Plan is
// soon done: who waits for the live rules has something to do. What is wrong with
// the rules is left for Plan to say.
func (p *Planner) Prepare(want []Ruleset) {
	if p.chains == nil {
		p.chains = make(map[ruleKey]*knownChain)
	}
	p.turn++
	var text, ids []byte
	var id [idLen]byte
	for _, rs := range want {
		if validate(rs, p) != nil {
			return
		}
		for _, c := range rs.Chains {
			k := p.known(rs.Family, c)
			if k == nil || k.ids != "" {
				continue
			}
			ids = ids[:0]
			for _, r := range c.Rules.All() {
				text = AppendRule(text[:0], rs.Family, r)
				hashRule(&id, rs.Family, c.Table, c.Name, text, r)
				ids = append(ids, id[:]...)
			}
			k.ids = string(ids)
		}
	}
}
