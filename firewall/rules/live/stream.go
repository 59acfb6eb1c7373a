package live

// A Parser parses the output of iptables-save while it is printed, so that both are done
// at about the same time. The zero value is ready to use.
type Parser struct {
	p parser
	// pending is the text that was written and not given to the parser yet. The rules of
	// a save are parts of the text, so the parser gets it in large pieces.
	pending []byte
	// left is how much of pending was with the parser already, which wants more.
	left int
	err  error
}

// pieceLen is how much text the parser gets at a time.
const pieceLen = 256 << 10

// Write takes a part of the text, of any size. It never fails, so that iptables-save can
// print to its end. Tables returns the error.
func (s *Parser) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && s.err == nil {
		part := b[:min(s.left+pieceLen-len(s.pending), len(b))]
		s.pending, b = append(s.pending, part...), b[len(part):]
		if len(s.pending) == s.left+pieceLen {
			s.give()
			s.err = s.p.parse()
			// The rest is less than a line, or one that goes on over others.
			s.pending, s.left = append(s.pending, s.p.text...), len(s.p.text)
		}
	}
	return n, nil
}

func (s *Parser) give() {
	s.p.text = string(s.pending)
	s.pending = s.pending[:0]
}

// Tables returns the tables of the text, after the last part was written.
func (s *Parser) Tables() (Tables, error) {
	if s.err != nil {
		return Tables{}, s.err
	}
	s.give()
	return s.p.end()
}
