package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/expect"
)

// DefaultPath is where the configuration is looked for.
const DefaultPath = "/etc/xfrmfw/xfrmfw.yaml"

// maxSize bounds a configuration file: some 10,000 tunnels.
const maxSize = 4 << 20

// An Error is a mistake in the configuration, or that an explicitly named file
// does not exist. Errors of several mistakes are joined.
type Error struct {
	File string
	// Line and Column count from 1, in characters; 0 is the file as a whole.
	Line, Column int
	// Text names the mistake and the text to write instead.
	Text string
}

// Error returns "FILE:LINE:COLUMN: TEXT".
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text)
}

// Config is all that a configuration file says.
type Config struct {
	// Firewall is the configuration of the rules.
	Firewall firewall.Config
	Daemon   Daemon
	// Engine lays the rules out, and Accept says where the nftables engine has verified
	// traffic accepted. Empty is iptables, and auto.
	Engine engine.Name
	Accept engine.Accept
	// Tests are packets with the verdict that each must have.
	Tests []expect.Test
}

// Default is the configuration of a host without a file.
func Default() Config {
	return Config{
		Firewall: firewall.Config{
			Marks: firewall.DefaultMarks(),
			Log:   firewall.LogConfig{Kernel: true, PerSecond: defaultRate},
		},
		Daemon: DefaultDaemon(),
	}
}

// Load reads the file at path. A file that does not exist stands for the
// defaults, unless it was named explicitly: then it is an error.
//
// Mistakes can be told from failures by errors.As with an *Error.
func Load(path string, explicit bool) (Config, error) {
	data, absent, err := Read(path, explicit)
	if err != nil {
		return Config{}, err
	}
	if absent {
		return Default(), nil
	}
	return Parse(data, path)
}

// Read returns the text that Load parses. absent is true if there is no file: the
// defaults hold.
func Read(path string, explicit bool) (data []byte, absent bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !explicit {
			return nil, true, nil
		}
		return nil, false, &Error{File: path, Text: "no such configuration file: create it, or leave the option out for the defaults"}
	}
	if err != nil {
		return nil, false, fmt.Errorf("read configuration: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err = io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, false, fmt.Errorf("read configuration: %w", err)
	}
	return data, false, nil
}

// Parse reads the text of a configuration file. The name is for errors only.
// Nothing of a text with a mistake is accepted.
func Parse(data []byte, filename string) (Config, error) {
	if len(data) > maxSize {
		return Config{}, &Error{File: filename, Text: fmt.Sprintf("the file is larger than %d MiB", maxSize>>20)}
	}
	defaults := Default()
	p := parser{file: filename, config: defaults.Firewall, service: defaults.Daemon}
	p.document(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err := p.err(); err != nil {
		return Config{}, err
	}
	return Config{Firewall: p.config, Daemon: p.service, Engine: p.engine, Accept: p.accept, Tests: p.testList}, nil
}
