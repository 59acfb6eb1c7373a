package firewall

// Stands returns the live rules that the tracker knows of.
func (t *Tracker) Stands() map[Family]Save {
	saves := make(map[Family]Save, len(t.stands))
	for family, s := range t.stands {
		saves[family] = s.save(family)
	}
	return saves
}
