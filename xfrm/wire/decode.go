package wire

import (
	"errors"
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Decoder turns the netlink messages of XFRM dumps into states and policies of
// a Snapshot. It reads straight from the receive buffer and keeps no part of a
// message; of an algorithm it takes the name and lengths, never the key.
//
// It remembers the names of algorithms and shares memory among the templates
// that it makes, so a dump of any size costs few allocations besides the slices
// of the Snapshot. The zero value is ready to use. A Decoder is not for
// concurrent use.
type Decoder struct {
	names map[string]string
	// templates is the unused rest of the current chunk.
	templates []xfrm.Template
	chunk     int
	// newer is the first attribute of the current message that no kernel known
	// to this package has.
	newer uint16
}

const (
	maxNames = 256
	minChunk = 64
	maxChunk = 4096
)

// ErrNotObject means that a message is not a state or a policy.
var ErrNotObject = errors.New("not a state or a policy")

// Decode appends the state (XFRM_MSG_NEWSA, UPDSA) or policy (NEWPOLICY,
// UPDPOLICY) that body describes to s. The body is the message without its
// nlmsghdr.
//
// A message that is cut short, breaks the kernel's own rules or has a meaning
// that this package does not know leaves an entry in s.Skipped instead, and no
// error: the caller has to look there. An attribute of a newer
// kernel leaves one entry for all objects that have it, which are decoded
// without it. Any other message type gives ErrNotObject.
func (d *Decoder) Decode(s *xfrm.Snapshot, typ uint16, body []byte) error {
	switch typ {
	case msgNewSA, msgUpdSA:
		s.States = append(s.States, xfrm.State{})
		last := len(s.States) - 1
		d.newer = 0
		if err := d.state(&s.States[last], body); err != nil {
			s.States = s.States[:last]
			s.Skip(stateName(body), err.Error())
		}
		skipNewer(s, "states", d.newer)
	case msgNewPolicy, msgUpdPolicy:
		s.Policies = append(s.Policies, xfrm.Policy{})
		last := len(s.Policies) - 1
		d.newer = 0
		if err := d.policy(&s.Policies[last], body); err != nil {
			s.Policies = s.Policies[:last]
			s.Skip(policyName(body), err.Error())
		}
		skipNewer(s, "policies", d.newer)
	default:
		return fmt.Errorf("decode message of type %#x: %w", typ, ErrNotObject)
	}
	return nil
}

// skipNewer notes once that objects have an attribute of a kernel newer than
// the package; 0 is none.
func skipNewer(s *xfrm.Snapshot, objects string, attribute uint16) {
	if attribute == 0 {
		return
	}
	newer := xfrm.Ignored{
		Object: fmt.Sprintf("attribute %d of %s", attribute, objects),
		Reason: "it is of a newer kernel than this release knows, so its meaning is left out",
	}
	if !slices.Contains(s.Skipped, newer) {
		s.Skip(newer.Object, newer.Reason)
	}
}

// name interns an algorithm's name: alg_name is 64 bytes, closed by a zero. The
// set is bounded, for a kernel has some dozens of algorithms.
func (d *Decoder) name(b []byte) (string, error) {
	b = b[:algNameSize]
	n := 0
	for n < len(b) && b[n] != 0 {
		n++
	}
	if s, ok := d.names[string(b[:n])]; ok {
		return s, nil
	}
	s := string(b[:n])
	if err := xfrm.CheckAlgorithm(s); err != nil {
		return "", err
	}
	if d.names == nil || len(d.names) >= maxNames {
		d.names = make(map[string]string)
	}
	d.names[s] = s
	return s, nil
}

// room returns n zero templates to fill.
func (d *Decoder) room(n int) []xfrm.Template {
	if n > len(d.templates) {
		d.chunk = min(max(2*d.chunk, minChunk), maxChunk)
		d.templates = make([]xfrm.Template, d.chunk)
	}
	t := d.templates[:n:n]
	d.templates = d.templates[n:]
	return t
}
