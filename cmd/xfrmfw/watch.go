package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/screen"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
)

// plainWidth is that of output which is no terminal.
const plainWidth = 100

// watch is what status --watch shows, again and again.
type watch struct {
	interval time.Duration
	asJSON   bool
	// read makes one report.
	read func(context.Context) (status.Report, error)

	now             status.Report
	rates           status.Rates
	readAt          time.Time
	failed          error
	stdout, stderr  io.Writer
	terminal        *screen.Screen
	headed, colored bool
}

// run shows reports until ctx ends, which is how a user ends it. The first
// reading has to succeed; later ones may fail and are tried again.
func (w *watch) run(ctx context.Context) error {
	if err := w.look(ctx); err != nil {
		return err
	}
	if file, ok := w.stdout.(*os.File); ok && !w.asJSON {
		s, err := screen.Open(file, os.Stdin)
		if err == nil {
			w.terminal = s
			defer s.Close()
		}
	}
	w.colored = w.terminal != nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if err := w.show(); err != nil {
		return err
	}
	ticker := time.NewTicker(w.interval)
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
	r, err := w.read(ctx)
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

// show writes what there is: on a terminal in place, else below what was
// written before.
func (w *watch) show() error {
	switch {
	case w.terminal != nil:
		o := w.options()
		o.Width, o.Height = w.terminal.Size()
		return w.terminal.Draw(w.now.WatchLines(w.rates, o))
	case w.failed != nil:
		_, _ = fmt.Fprintf(w.stderr, "xfrmfw: %v; trying again in %s\n", w.failed, w.interval)
		return nil
	case w.asJSON:
		return w.now.WriteJSONLine(w.stdout)
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
	if _, err := io.WriteString(w.stdout, text); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

func (w *watch) options() status.WatchOptions {
	o := status.WatchOptions{Color: w.colored, Interval: w.interval}
	if w.failed != nil {
		o.Failed = w.failed.Error()
	}
	return o
}
