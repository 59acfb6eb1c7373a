package device

import "github.com/xfrmfw/xfrmfw/xfrm"

// IsVTI reports whether a device is a VTI.
func IsVTI(l xfrm.Link) bool { return l.Kind == "vti" || l.Kind == "vti6" }

// hasKey reports whether a VTI's key selects the policies of a pair.
func hasKey(p xfrm.Pair, l xfrm.Link) bool {
	if p.Mark.Mask == 0 {
		return false
	}
	return inbound(p) && l.IKey&p.Mark.Mask == p.Mark.Value || p.Has(xfrm.Out) && l.OKey&p.Mark.Mask == p.Mark.Value
}

func inbound(p xfrm.Pair) bool { return p.Has(xfrm.In) || p.Has(xfrm.Fwd) }
