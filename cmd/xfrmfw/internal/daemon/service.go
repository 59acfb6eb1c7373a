package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

// service notifies systemd of the daemon's state. Its methods do nothing if systemd did
// not start the daemon.
type service struct{ interval time.Duration }

func newService() *service {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		interval = 0
	}
	return &service{interval: interval}
}

func (s *service) ready(state string) {
	_, _ = sd.SdNotify(false, sd.SdNotifyReady+"\nSTATUS="+text.OneLine(state))
}

func (s *service) status(state string) { _, _ = sd.SdNotify(false, "STATUS="+text.OneLine(state)) }

func (s *service) stopping() { _, _ = sd.SdNotify(false, sd.SdNotifyStopping) }

func (s *service) reloading() {
	_, _ = sd.SdNotify(false, sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec())
}

// watchdog notifies systemd for as long as well returns true.
func (s *service) watchdog(ctx context.Context, well func() bool) {
	if s.interval == 0 {
		return
	}
	ticker := time.NewTicker(s.interval / 3)
	defer ticker.Stop()
	for {
		if well() {
			_, _ = sd.SdNotify(false, sd.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// logger writes lines to stderr, for the journal with the level that it reads.
type logger struct {
	w       io.Writer
	journal bool
}

func newLogger(w io.Writer) logger {
	return logger{w, os.Getenv("JOURNAL_STREAM") != ""}
}

func (l logger) info(format string, args ...any) { l.line(6, "", format, args...) }
func (l logger) warn(format string, args ...any) { l.line(4, "warning: ", format, args...) }
func (l logger) fail(format string, args ...any) { l.line(3, "error: ", format, args...) }

func (l logger) line(level int, kind, format string, args ...any) {
	prefix := ""
	if l.journal {
		prefix = fmt.Sprintf("<%d>", level)
	}
	_, _ = fmt.Fprintf(l.w, "%sxfrmfw: %s%s\n", prefix, kind, text.OneLine(fmt.Sprintf(format, args...)))
}
