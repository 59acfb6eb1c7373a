package compile

import "github.com/xfrmfw/xfrmfw/firewall/rules/layout"

// cases lays out the cases of one family.
type cases struct{ *layout.Layout }
