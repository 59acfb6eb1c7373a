package plan

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Stands returns the live rules that the tracker knows of.
func (t *Tracker) Stands() map[xfrm.Family]live.Tables {
	saves := make(map[xfrm.Family]live.Tables, len(t.stands))
	for family, s := range t.stands {
		saves[family] = s.save(family)
	}
	return saves
}
