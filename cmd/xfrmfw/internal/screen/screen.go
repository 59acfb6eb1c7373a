// Package screen shows lines in place on a terminal, and leaves the terminal as it found
// it. It uses the escape sequences that all common terminals have (ECMA-48 and xterm's
// alternate screen), and no terminal database.
package screen

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The sequences. While lines stand there, the cursor is hidden and lines are not
// wrapped, so that a width that changed a moment ago breaks nothing.
const (
	enter   = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	leave   = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home    = "\x1b[H"
	toRight = "\x1b[K" // clears the line from the cursor on
	below   = "\x1b[J" // the same, and all lines below
)

// Screen is a terminal that is taken over until Close.
type Screen struct {
	out, in *os.File
	// former is how the input was set, nil if it is no terminal.
	former *unix.Termios

	mu      sync.Mutex
	entered bool

	signals chan os.Signal
	resized chan struct{}
	quit    chan struct{}
	done    chan struct{}
}

// ErrNoTerminal is the error of output that can't be drawn on: it is no terminal, or TERM
// is dumb or missing, which says that it has no escape sequences.
var ErrNoTerminal = errors.New("not a terminal that can be drawn on")

// Open takes the terminal over. Keys are not shown while it is open; in may be
// no terminal, and then is not touched.
func Open(out, in *os.File) (*Screen, error) {
	term := os.Getenv("TERM")
	if _, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS); err != nil || term == "" || term == "dumb" {
		return nil, fmt.Errorf("open the screen: %w", ErrNoTerminal)
	}
	s := &Screen{
		out: out, in: in, signals: make(chan os.Signal, 4), resized: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	signal.Notify(s.signals, unix.SIGWINCH, unix.SIGTSTP, unix.SIGCONT)
	if err := s.enter(); err != nil {
		signal.Stop(s.signals)
		return nil, err
	}
	go s.watch()
	if s.former != nil {
		go s.keys()
	}
	return s, nil
}

// Close gives the terminal back as it was.
func (s *Screen) Close() {
	signal.Stop(s.signals)
	close(s.done)
	s.leave()
}

// Size returns columns and lines, 80 and 24 where the terminal does not tell.
func (s *Screen) Size() (columns, lines int) {
	size, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return 80, 24
	}
	return int(size.Col), int(size.Row)
}

// Resized has an element when the size has changed, or the screen has to be drawn anew.
func (s *Screen) Resized() <-chan struct{} { return s.resized }

// Quit is closed when the user presses q.
func (s *Screen) Quit() <-chan struct{} { return s.quit }

// Draw shows lines in place of those that stand there.
func (s *Screen) Draw(lines []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.entered {
		return nil
	}
	// A line is cleared before it is written, since behind its last column the
	// cursor stands on that column; with the last line goes the text below. That
	// one has no newline, which would move all lines up.
	var b strings.Builder
	b.WriteString(home)
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if i < len(lines)-1 {
			b.WriteString(toRight)
		} else {
			b.WriteString(below)
		}
		b.WriteString(line)
	}
	if _, err := io.WriteString(s.out, b.String()); err != nil {
		return fmt.Errorf("write to the terminal: %w", err)
	}
	return nil
}

func (s *Screen) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entered {
		return nil
	}
	if t, err := unix.IoctlGetTermios(int(s.in.Fd()), unix.TCGETS); err == nil {
		former := *t
		t.Lflag &^= unix.ECHO | unix.ICANON
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		if err := unix.IoctlSetTermios(int(s.in.Fd()), unix.TCSETS, t); err == nil {
			s.former = &former
		}
	}
	if _, err := io.WriteString(s.out, enter); err != nil {
		return fmt.Errorf("write to the terminal: %w", err)
	}
	s.entered = true
	return nil
}

func (s *Screen) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.entered {
		return
	}
	s.entered = false
	_, _ = io.WriteString(s.out, leave)
	if s.former != nil {
		_ = unix.IoctlSetTermios(int(s.in.Fd()), unix.TCSETS, s.former)
	}
}

// watch follows changes of the size, and gives the terminal back while the
// program is stopped by Ctrl-Z.
func (s *Screen) watch() {
	for {
		select {
		case <-s.done:
			return
		case got := <-s.signals:
			switch got {
			case unix.SIGTSTP:
				s.leave()
				// Taken for ourselves, the signal no longer stops us; this one does.
				_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
				continue
			case unix.SIGCONT:
				if err := s.enter(); err != nil {
					continue
				}
			}
			select {
			case s.resized <- struct{}{}:
			default:
			}
		}
	}
}

// keys ends the screen at q. It stays in its read until the process ends.
func (s *Screen) keys() {
	key := make([]byte, 1)
	for {
		n, err := s.in.Read(key)
		if err != nil {
			return
		}
		if n == 1 && (key[0] == 'q' || key[0] == 'Q') {
			close(s.quit)
			return
		}
	}
}
