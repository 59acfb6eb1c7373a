package main

import (
	"errors"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
)

// The exit statuses, as xfrmfw(8) has them.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitFindings = 3
)

// errFindings ends a command that did its work and found something: rules out
// of sync, say. The findings are on stdout already.
var errFindings = errors.New("")

// usageError is a command line that makes no sense.
type usageError string

// Error returns the fault of the command line.
func (e usageError) Error() string { return string(e) }

// exitStatus maps an error to the exit status. Before a command has started,
// every error is one of the command line.
func exitStatus(err error, started bool) int {
	var usage usageError
	var bad *config.Error
	switch {
	case errors.Is(err, errFindings):
		return exitFindings
	case !started, errors.As(err, &usage), errors.As(err, &bad):
		return exitUsage
	}
	return exitFailed
}
