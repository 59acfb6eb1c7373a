package screen

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo terminal and returns its two ends.
func terminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return user, program
}

func resize(t *testing.T, user *os.File, columns, lines uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		t.Fatal(err)
	}
}

// echoes reports whether a terminal shows the keys that are typed.
func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0 && s.Lflag&unix.ICANON != 0
}

// written reads the output of the program, up to a text.
func written(t *testing.T, user *os.File, until string) string {
	t.Helper()
	var all strings.Builder
	buf := make([]byte, 4096)
	for deadline := time.Now().Add(time.Minute); !strings.Contains(all.String(), until); {
		if time.Now().After(deadline) {
			t.Fatalf("%q, but never %q", all.String(), until)
		}
		n, err := user.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(buf[:n])
	}
	return all.String()
}

func TestScreen(t *testing.T) {
	t.Setenv("TERM", "xterm")
	user, program := terminal(t)
	resize(t, user, 40, 12)
	if !echoes(t, program) {
		t.Fatal("the terminal does not echo to begin with")
	}
	s, err := Open(program, program)
	if err != nil {
		t.Fatal(err)
	}
	if echoes(t, program) {
		t.Error("keys are shown while the screen is open")
	}
	if columns, lines := s.Size(); columns != 40 || lines != 12 {
		t.Errorf("size %d x %d, want 40 x 12", columns, lines)
	}
	if err := s.Draw([]string{"one", "two", "three"}); err != nil {
		t.Fatal(err)
	}
	// The terminal itself adds a carriage return to each newline.
	if got, want := strings.ReplaceAll(written(t, user, "three"), "\r\r", "\r"), enter+"\x1b[H\x1b[Kone\r\n\x1b[Ktwo\r\n\x1b[Jthree"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
	resize(t, user, 100, 30)
	if err := unix.Kill(unix.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	wait(t, s.Resized(), "a new size")
	if columns, _ := s.Size(); columns != 100 {
		t.Errorf("%d columns after the change, want 100", columns)
	}
	if _, err := user.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	wait(t, s.Quit(), "q")
	s.Close()
	if got := written(t, user, leave); got != leave {
		t.Errorf("wrote %q at the end, want %q", got, leave)
	}
	if !echoes(t, program) {
		t.Error("the terminal is not as it was")
	}
}

func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("%s was not noticed", what)
	}
}

func TestNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	if _, err := Open(w, r); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("a pipe: %v", err)
	}
}

// A terminal that has no escape sequences is not written any.
func TestDumbTerminal(t *testing.T) {
	_, program := terminal(t)
	for _, term := range []string{"dumb", ""} {
		t.Setenv("TERM", term)
		if s, err := Open(program, program); !errors.Is(err, ErrNoTerminal) {
			t.Errorf("TERM=%s: %v", term, err)
			if err == nil {
				s.Close()
			}
		}
	}
}
