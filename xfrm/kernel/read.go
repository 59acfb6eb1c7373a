package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/xfrm"
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

// Read reads the kernel once. See Reader.Read.
func Read(ctx context.Context) (xfrm.Snapshot, error) {
	var r Reader
	return r.Read(ctx)
}

// Reader reads snapshots and keeps what makes the next reading cheaper. The
// zero value is ready to use. A Reader is not for concurrent use.
type Reader struct {
	decoder xfrm.Decoder
	buf     []byte
	// root is put before the paths of files, for tests.
	root string
	// builtin tells which offloads are part of the kernel's image, once known.
	builtin *found
}

// Read returns the kernel's states, policies and host facts, sorted as by
// Snapshot.Sort. Messages that are not understood are in its Skipped. The
// reading is not atomic; the kernel has no means for that.
//
// The error is ErrPermission, ErrNoXFRM, that of ctx, or what the socket gave.
//
// Each snapshot has memory of its own. To overwrite that of an older one is no
// faster, since it is in no cache any more, and somebody may still look at it.
func (r *Reader) Read(ctx context.Context) (xfrm.Snapshot, error) {
	var s xfrm.Snapshot
	if err := r.readXFRM(ctx, &s); err != nil {
		return xfrm.Snapshot{}, fmt.Errorf("read the kernel: %w", err)
	}
	if err := r.readHost(ctx, &s); err != nil {
		return xfrm.Snapshot{}, fmt.Errorf("read the kernel: %w", err)
	}
	s.Time = time.Now().Unix()
	s.Sort()
	return s, nil
}

// readXFRM reads states and policies. An attempt that lost messages cannot be
// continued, so the next one starts with an empty snapshot and a new socket.
func (r *Reader) readXFRM(ctx context.Context, s *xfrm.Snapshot) error {
	if r.buf == nil {
		r.buf = make([]byte, bufferSize)
	}
	var err error
	for range attempts {
		if err = ctx.Err(); err != nil {
			return err
		}
		*s = xfrm.Snapshot{Schema: xfrm.SchemaVersion}
		err = r.dump(ctx, s)
		var short errTruncated
		switch {
		case err == nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &short) && short.need <= maxBuffer:
			r.buf = make([]byte, 2*short.need)
		case errors.Is(err, errLost), errors.Is(err, errInterrupted), errors.Is(err, unix.EBUSY):
		default:
			return err
		}
	}
	return err
}

func (r *Reader) dump(ctx context.Context, s *xfrm.Snapshot) error {
	c, err := dial(r.buf)
	if err != nil {
		return err
	}
	defer c.close()
	defer c.until(ctx)()

	states, policies := c.counts()
	s.States = slices.Grow(s.States, states)
	s.Policies = slices.Grow(s.Policies, policies)

	each := func(typ uint16, body []byte) error { return r.decoder.Decode(s, typ, body) }
	if err := c.request(nl.NewNetlinkRequest(nl.XFRM_MSG_GETSA, unix.NLM_F_DUMP), each); err != nil {
		return fmt.Errorf("dump XFRM states: %w", explain(err))
	}
	if err := c.request(nl.NewNetlinkRequest(nl.XFRM_MSG_GETPOLICY, unix.NLM_F_DUMP), each); err != nil {
		return fmt.Errorf("dump XFRM policies: %w", explain(err))
	}
	return nil
}

// counts asks how many states and policies there are, so that their memory can
// be had at once. It is a hint: if the kernel does not tell, the answer is 0.
func (c *conn) counts() (states, policies int) {
	req := nl.NewNetlinkRequest(nl.XFRM_MSG_GETSADINFO, 0)
	req.AddRawData(make([]byte, 4))
	_ = c.request(req, func(_ uint16, body []byte) error {
		if v := infoAttr(body, attrCount); len(v) >= 4 {
			states = int(min(native.Uint32(v), maxHint))
		}
		return nil
	})
	req = nl.NewNetlinkRequest(nl.XFRM_MSG_GETSPDINFO, 0)
	req.AddRawData(make([]byte, 4))
	_ = c.request(req, func(_ uint16, body []byte) error {
		// struct xfrmu_spdinfo: in, out, fwd, and the same of sockets.
		for v := infoAttr(body, attrSPDInfo); len(v) >= 4; v = v[4:] {
			policies = min(policies+int(min(native.Uint32(v), maxHint)), maxHint)
		}
		return nil
	})
	return states, policies
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
