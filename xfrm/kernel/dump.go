package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

const (
	// attempts bounds the readings after lost or interrupted dumps.
	attempts = 4
	// maxHint bounds the memory that is set aside before the dump.
	maxHint = 1 << 20

	// Attributes of XFRM_MSG_NEWSADINFO and NEWSPDINFO.
	attrCount   = 1 // XFRMA_SAD_CNT
	attrSPDInfo = 1 // XFRMA_SPD_INFO
)

// dumper reads one of the kernel's two lists.
type dumper struct {
	decoder    wire.Decoder
	buf, spare []byte
}

// read dumps the records of typ into s, and sorts them. An attempt that lost messages cannot be
// continued, so the next one starts with an empty snapshot and a new socket.
func (d *dumper) read(ctx context.Context, typ int, s *xfrm.Snapshot) error {
	if d.buf == nil {
		d.buf, d.spare = make([]byte, bufferSize), make([]byte, bufferSize)
	}
	var err error
	for range attempts {
		if err = ctx.Err(); err != nil {
			return err
		}
		*s = xfrm.Snapshot{}
		err = d.dump(ctx, typ, s)
		var short errTruncated
		switch {
		case err == nil:
			s.Sort()
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &short) && short.need <= maxBuffer:
			d.buf, d.spare = make([]byte, 2*short.need), make([]byte, 2*short.need)
		case errors.Is(err, errLost), errors.Is(err, errInterrupted), errors.Is(err, unix.EBUSY):
		default:
			return err
		}
	}
	return err
}

func (d *dumper) dump(ctx context.Context, typ int, s *xfrm.Snapshot) error {
	c, err := dial(d.buf)
	if err != nil {
		return err
	}
	defer c.close()
	defer c.until(ctx)()

	what := "states"
	if typ == nl.XFRM_MSG_GETSA {
		s.States = slices.Grow(s.States, c.countStates())
	} else {
		what = "policies"
		s.Policies = slices.Grow(s.Policies, c.countPolicies())
	}
	err = c.dump(nl.NewNetlinkRequest(typ, unix.NLM_F_DUMP), d.spare, func(typ uint16, body []byte) error {
		return d.decoder.Decode(s, typ, body)
	})
	if err != nil {
		return fmt.Errorf("dump XFRM %s: %w", what, explain(err))
	}
	return nil
}

// countStates asks how many states there are, so that their memory can be had
// at once. It is a hint: if the kernel does not tell, the answer is 0.
func (c *conn) countStates() (n int) {
	req := nl.NewNetlinkRequest(nl.XFRM_MSG_GETSADINFO, 0)
	req.AddRawData(make([]byte, 4))
	_ = c.request(req, func(_ uint16, body []byte) error {
		if v := infoAttr(body, attrCount); len(v) >= 4 {
			n = int(min(native.Uint32(v), maxHint))
		}
		return nil
	})
	return n
}

// countPolicies is countStates for policies.
func (c *conn) countPolicies() (n int) {
	req := nl.NewNetlinkRequest(nl.XFRM_MSG_GETSPDINFO, 0)
	req.AddRawData(make([]byte, 4))
	_ = c.request(req, func(_ uint16, body []byte) error {
		// struct xfrmu_spdinfo: in, out, fwd, and the same of sockets.
		for v := infoAttr(body, attrSPDInfo); len(v) >= 4; v = v[4:] {
			n = min(n+int(min(native.Uint32(v), maxHint)), maxHint)
		}
		return nil
	})
	return n
}

// infoAttr returns the value of an attribute behind a word of flags.
func infoAttr(body []byte, typ uint16) []byte {
	if len(body) < 4 {
		return nil
	}
	for b := body[4:]; len(b) >= 4; {
		size := int(native.Uint16(b))
		if size < 4 || size > len(b) {
			return nil
		}
		if native.Uint16(b[2:]) == typ {
			return b[4:size]
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return nil
}
