package memory

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/guard"
)

// clock is the memory's own time. It goes by the time that this program observes a
// host to be up, as the kernel's monotonic clock counts it, so that a wall clock which
// is set, by hand or from the wire, ends no guard. The time for which the host was
// off does not count.
type clock struct {
	// Observed is in seconds; the clock was set by the wall clock once, as it began.
	Observed int64 `json:"observed"`
	// Boot and Uptime are the kernel's name of the boot in which that was read, and
	// the monotonic clock then, in seconds.
	Boot   string `json:"boot"`
	Uptime int64  `json:"uptime"`
}

// longest is how much time counts from one writing to the next. The daemon writes at
// least every writtenAfter; without one, time counts by the applies.
const longest = 24 * 3600

// at returns the clock as it is in a boot, at an uptime.
func (c clock) at(boot string, uptime int64) clock {
	passed := uptime // the time before this boot did not count
	if boot != "" && c.Boot == boot {
		passed = uptime - c.Uptime
	}
	return clock{Observed: c.Observed + min(max(passed, 0), longest), Boot: boot, Uptime: uptime}
}

// begin sets the clock for guards of a memory without one, with times taken
// from a wall clock. That clock may have been wrong then or may be now.
func begin(guards []guard.Guard, wall int64, boot string, uptime int64) clock {
	now := wall
	for _, g := range guards {
		now = max(now, g.Since)
	}
	return clock{Observed: now, Boot: boot, Uptime: uptime}.notPast(guards)
}

// notPast returns the clock, set back to where no guard has less than a day left.
func (c clock) notPast(guards []guard.Guard) clock {
	for _, g := range guards {
		c.Observed = min(c.Observed, max(g.Expires-longest, 0))
	}
	return c
}

// uptime is the kernel's monotonic clock in seconds, and the name of the boot that it
// belongs to, empty if that is not to be had.
func uptime() (boot string, seconds int64) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "", 0
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", int64(ts.Sec)
	}
	return strings.TrimSpace(string(id)), int64(ts.Sec)
}
