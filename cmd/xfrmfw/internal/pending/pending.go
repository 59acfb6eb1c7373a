// Package pending reports whether rules of apply --confirm wait for their confirmation.
package pending

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

// The file of a change that waits, in the run directory, and the bound of its size: it
// has all live rules. While the process that waits lives, it holds the lock of that name.
const (
	Name, Suffix = "confirm", ".json"
	MaxSize      = 1 << 30
)

// Now is the clock of deadlines: the kernel's monotonic one in nanoseconds, which no wall
// clock that is set moves.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}

// State is a change that waits for its confirmation.
type State struct {
	// Pending is true as well where it can't be told.
	Pending bool
	// Left is the time until the former rules come back, 0 if it is over or not known.
	Left time.Duration
	// Alive is true if the process that puts them back lives.
	Alive bool
	// Unreadable is true if this user may not read the file.
	Unreadable bool
}

// Look returns the change that waits, if one does.
func Look(dirs rundir.Dirs) State {
	text, err := dirs.Read(Name, Suffix, MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}
	}
	if errors.Is(err, fs.ErrPermission) {
		return State{Pending: true, Unreadable: true}
	}
	s := State{Pending: true, Alive: dirs.Locked(Name)}
	var change struct {
		Deadline int64 `json:"deadline"`
	}
	if err == nil && json.Unmarshal(text, &change) == nil {
		s.Left = max(time.Duration(change.Deadline-Now()), 0)
	}
	return s
}

// String describes the waiting change, for people.
func (s State) String() string {
	left := s.Left.Round(time.Second)
	switch {
	case !s.Pending:
		return "no apply --confirm waits"
	case s.Unreadable:
		return "this user cannot read the run directory, so an apply --confirm that waits is not shown: run as root"
	case s.Alive:
		return fmt.Sprintf("apply --confirm waits: the former rules come back in %s unless xfrmfw confirm is run", left)
	case s.Left > 0:
		return fmt.Sprintf("apply --confirm waits, and its process was killed: run xfrmfw confirm within %s, or the next apply puts the former rules back", left)
	}
	return "apply --confirm was not confirmed, and its process was killed: the next apply puts the former rules back"
}
