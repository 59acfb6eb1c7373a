// Package interrupt catches the signals that end a program while it has work to finish.
// Before that a signal has its default action, so that a command that is stuck, in opening
// a FIFO for example, ends at once.
package interrupt

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Context returns a context that is done after the first SIGINT or SIGTERM, or one of the
// other signals unless it is ignored, as SIGHUP is under nohup. The next signal has its
// default action again. The returned function gives the signals back.
func Context(ctx context.Context, others ...os.Signal) (context.Context, context.CancelFunc) {
	signals := []os.Signal{unix.SIGINT, unix.SIGTERM}
	for _, s := range others {
		if !signal.Ignored(s) {
			signals = append(signals, s)
		}
	}
	ctx, stop := signal.NotifyContext(ctx, signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
