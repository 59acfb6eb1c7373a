// Package watch shows reports of status again and again: in place on a terminal, else
// below each other.
package watch

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/interrupt"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/screen"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
)

// plainWidth is the width of output that is no terminal.
const plainWidth = 100

// Options are the contents and the place of the display.
type Options struct {
	Interval time.Duration
	// JSON has one report a line written, as JSON.
	JSON bool
	// Read makes one report.
	Read           func(context.Context) (status.Report, error)
	Stdout, Stderr io.Writer
}

type watch struct {
	Options
	now             status.Report
	rates           status.Rates
	readAt          time.Time
	failed          error
	terminal        *screen.Screen
	headed, colored bool
}

// Run shows reports until ctx is done, which is how a user ends it. The first reading has
// to succeed; a later one that fails is tried again.
func Run(ctx context.Context, o Options) error {
	w := &watch{Options: o}
	return w.run(ctx)
}

func (w *watch) run(ctx context.Context) error {
	if err := w.look(ctx); err != nil {
		return err
	}
	// Caught before the screen is taken over, which has to be given back.
	ctx, stop := interrupt.Context(ctx, unix.SIGHUP, unix.SIGQUIT)
	defer stop()
	if file, ok := w.Stdout.(*os.File); ok && !w.JSON {
		s, err := screen.Open(file, os.Stdin)
		if err == nil {
			w.terminal = s
			defer s.Close()
		}
	}
	w.colored = w.terminal != nil && os.Getenv("NO_COLOR") == ""
	if err := w.show(); err != nil {
		return err
	}
	ticker := time.NewTicker(w.Interval)
	defer ticker.Stop()
	var resized, quit <-chan struct{}
	if w.terminal != nil {
		resized, quit = w.terminal.Resized(), w.terminal.Quit()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-quit:
			return nil
		case <-resized:
		case <-ticker.C:
			w.failed = w.look(ctx)
			if ctx.Err() != nil {
				return nil
			}
		}
		if err := w.show(); err != nil {
			return err
		}
	}
}

// look reads once more.
func (w *watch) look(ctx context.Context) error {
	r, err := w.Read(ctx)
	if err != nil {
		return err
	}
	at := time.Now()
	if !w.readAt.IsZero() {
		w.rates = status.Between(w.now, r, at.Sub(w.readAt))
	}
	w.now, w.readAt = r, at
	return nil
}

// show writes the last report: on a terminal in place, else below the text
// written before.
func (w *watch) show() error {
	switch {
	case w.terminal != nil:
		o := w.options()
		o.Width, o.Height = w.terminal.Size()
		return w.terminal.Draw(w.now.WatchLines(w.rates, o))
	case w.failed != nil:
		_, _ = fmt.Fprintf(w.Stderr, "xfrmfw: %v; trying again in %s\n", w.failed, w.Interval)
		return nil
	case w.JSON:
		return w.now.WriteJSONLine(w.Stdout)
	}
	o := w.options()
	o.Width = plainWidth
	text := ""
	if w.headed {
		text = "\n"
	}
	w.headed = true
	for _, line := range w.now.WatchLines(w.rates, o) {
		text += line + "\n"
	}
	if _, err := io.WriteString(w.Stdout, text); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

func (w *watch) options() status.WatchOptions {
	o := status.WatchOptions{Color: w.colored, Interval: w.Interval}
	if w.failed != nil {
		o.Failed = w.failed.Error()
	}
	return o
}
