package iptables

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// drain is the time after a program's end in which its whole output is read, by
	// a reader that may have to wait for a processor.
	drain = 10 * time.Second
	// pipeSize is the output that a program may be ahead of its reader. It is the most that any user may
	// ask for (fs.pipe-max-size); with less the program would wait for a reader that may
	// have something else to do.
	pipeSize = 1 << 20
	// A program that prints much does so 4 KiB at a time. From the first lull on
	// we look for more every few milliseconds only, as being woken for each of
	// these costs it and us more than all else about them.
	much = 128 << 10
	lull = 2 * time.Millisecond
)

// output is the pipe to which a program prints. Its content is passed on,
// and the program given more time.
type output struct {
	read, write *os.File
	to          io.Writer
	patience    *time.Timer
	timeout     time.Duration
	done        chan error
}

func newOutput(to io.Writer, patience *time.Timer, timeout time.Duration) (*output, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	if raw, err := write.SyscallConn(); err == nil {
		// One of the usual size does as well.
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
	return &output{read: read, write: write, to: to, patience: patience, timeout: timeout, done: make(chan error, 1)}, nil
}

// started is called when the program has its end of the pipe, or never will.
func (o *output) started() {
	_ = o.write.Close()
	go func() { o.done <- o.copy() }()
}

// end returns when all that was printed was passed on. A child of the program may live on
// with its end of the pipe, and is not waited for.
func (o *output) end() error {
	_ = o.read.SetReadDeadline(time.Now().Add(drain))
	err := <-o.done
	_ = o.read.Close()
	if err != nil {
		return fmt.Errorf("read its output: %w", err)
	}
	return nil
}

func (o *output) copy() error {
	buffer := make([]byte, 32<<10)
	passed := 0
	for {
		n, err := o.read.Read(buffer)
		if n > 0 {
			// Once the timer has fired, the program is being killed.
			if o.patience.Stop() {
				o.patience.Reset(o.timeout)
			}
			if _, err := o.to.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if passed += n; passed > much && n < len(buffer) {
			time.Sleep(lull)
		}
	}
}
