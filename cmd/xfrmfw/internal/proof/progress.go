package proof

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Progress returns a function that shows on a terminal how far a proof is, from the first
// second on, and one that takes that away. On anything else they do nothing.
func Progress(w io.Writer) (step func(done, all int), end func()) {
	file, ok := w.(*os.File)
	if ok {
		_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
		ok = err == nil
	}
	if !ok {
		return func(int, int) {}, func() {}
	}
	began, shown := time.Now(), false
	step = func(done, all int) {
		if time.Since(began) > time.Second {
			shown = true
			_, _ = fmt.Fprintf(file, "\rproving: %d of %d", done, all)
		}
	}
	return step, func() {
		if shown {
			_, _ = fmt.Fprint(file, "\r\x1b[K")
		}
	}
}
