package evaluate

import (
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
)

// stream is packets by the bits that their mark has now: bit 0 of the index is TAG,
// bit 1 VERIFIED.
type stream [4]space.Set

const (
	tagBit      = 1
	verifiedBit = 2
)

var nothing = stream{space.None, space.None, space.None, space.None}

// model is the packets of a space as an engine sees them: divided by their mark, and at a
// hook. Conntrack may not know them.
type model struct {
	*space.Space
	untracked bool
}

func (s model) join(a, b stream) stream {
	for i := range a {
		a[i] = s.Or(a[i], b[i])
	}
	return a
}

// mark is the mark that stands for an index of a stream.
func (s model) mark(i int) uint32 {
	var mark uint32
	if i&tagBit != 0 {
		mark |= s.Marks.Tag
	}
	if i&verifiedBit != 0 {
		mark |= s.Marks.Verified
	}
	return mark
}

func (s model) index(mark uint32) int {
	i := 0
	if mark&s.Marks.Tag != 0 {
		i |= tagBit
	}
	if mark&s.Marks.Verified != 0 {
		i |= verifiedBit
	}
	return i
}
