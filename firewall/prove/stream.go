package prove

// stream is packets by the bits that their mark has now: bit 0 of the index is TAG,
// bit 1 VERIFIED.
type stream [4]Set

const (
	tagBit      = 1
	verifiedBit = 2
)

var nothing = stream{None, None, None, None}

// model is the packets of a space as an engine sees them: divided by their mark, and at a
// hook.
type model struct{ *Space }

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
		mark |= s.marks.Tag
	}
	if i&verifiedBit != 0 {
		mark |= s.marks.Verified
	}
	return mark
}

func (s model) index(mark uint32) int {
	i := 0
	if mark&s.marks.Tag != 0 {
		i |= tagBit
	}
	if mark&s.marks.Verified != 0 {
		i |= verifiedBit
	}
	return i
}
