package kernel

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Read reads the kernel once. See Reader.Read.
func Read(ctx context.Context) (xfrm.Snapshot, error) {
	var r Reader
	return r.Read(ctx)
}

// Reader reads snapshots and keeps buffers that make the next reading cheaper. The
// zero value is ready to use. A Reader is not for concurrent use.
type Reader struct {
	states, policies dumper
	// root is put before the paths of files, for tests.
	root string
	// builtin tells which offloads are part of the kernel's image, once known.
	builtin *found
}

// Read returns the kernel's states, policies and host facts, sorted as by
// Snapshot.Sort. Messages that are not understood are in its Skipped. The
// reading is not atomic; the kernel has no means for that.
//
// The error is ErrPermission, ErrNoXFRM, that of ctx, or the socket's.
//
// Each snapshot has memory of its own. To overwrite that of an older one is no faster,
// because it is in no cache any more, and a caller may still read it.
func (r *Reader) Read(ctx context.Context) (xfrm.Snapshot, error) {
	// The parts are read and sorted at the same time. Nearly all of it is the
	// kernel's work, which it does on as many CPUs as there are dumps.
	var states, policies, host xfrm.Snapshot
	done := make(chan error, 1)
	go func() { done <- r.policies.read(ctx, nl.XFRM_MSG_GETPOLICY, &policies) }()
	err := r.states.read(ctx, nl.XFRM_MSG_GETSA, &states)
	if err == nil {
		err = r.readHost(ctx, &host)
	}
	if e := <-done; err == nil {
		err = e
	}
	if err != nil {
		return xfrm.Snapshot{}, fmt.Errorf("read the kernel: %w", err)
	}

	var skipped xfrm.Snapshot
	for _, o := range slices.Concat(states.Skipped, policies.Skipped, host.Skipped) {
		skipped.Skip(o.Object, o.Reason)
	}
	skipped.Sort()
	return xfrm.Snapshot{
		Schema:   xfrm.SchemaVersion,
		States:   states.States,
		Policies: policies.Policies,
		Host:     host.Host,
		Skipped:  skipped.Skipped,
		Time:     time.Now().Unix(),
	}, nil
}
