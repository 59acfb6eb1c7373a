// Package pace decides when the daemon looks at the kernel: soon after a single
// event, once for a storm of them, and never so often that looking is all that
// it does.
package pace

import "time"

// The events that are waited for. An IKE daemon installs a tunnel's states and policies one
// by one within a millisecond or two; each of them is an event.
const (
	quiet   = 2 * time.Millisecond
	longest = 20 * time.Millisecond
	// calm and longestCalm are the same for events that are in force already, in times of
	// the last turn's length, and mostCalm and mostLongestCalm their bounds.
	calm            = 4
	longestCalm     = 20
	mostCalm        = time.Second
	mostLongestCalm = 5 * time.Second
	// slowest bounds how long the events of a turn that was costly wait.
	slowest = 5 * time.Second
	// firstRetry doubles with each failure, up to the interval of Failed.
	firstRetry = 100 * time.Millisecond
)

// Pace is when the next turn is due. The zero value has none due.
type Pace struct {
	// first and last event since the turn that ended last began
	first, last time.Time
	// firstHandled and lastHandled are those of the events that are in force already.
	firstHandled, lastHandled time.Time
	// rest is when the next turn may begin, and took the length of the last one.
	rest time.Time
	took time.Duration
	// retry is when a failed turn is tried again, after so many failures.
	retry    time.Time
	failures uint
}

// Event notes that something happened.
func (p *Pace) Event(now time.Time) {
	if p.first.IsZero() {
		p.first = now
	}
	p.last = now
}

// Handled notes that something happened that is in force already: the turn that sees to
// all of it waits until it is calm.
func (p *Pace) Handled(now time.Time) {
	if p.firstHandled.IsZero() {
		p.firstHandled = now
	}
	p.lastHandled = now
}

// Due is when the next turn should begin; ok is false if nothing happened. It is
// 2 ms after the last event, but no later than 20 ms after the first, and when
// the last turn is as long ago as it took. After events that are in force already it is
// when nothing has happened for 4 times as long as the last turn took, and no later than
// 20 times that after the first, at most 1 s and 5 s.
func (p *Pace) Due() (at time.Time, ok bool) {
	if !p.firstHandled.IsZero() {
		calm, longestCalm := min(calm*p.took, mostCalm), min(longestCalm*p.took, mostLongestCalm)
		at, ok = earlier(p.lastHandled.Add(max(quiet, calm)), p.firstHandled.Add(max(longest, longestCalm))), true
	}
	if !p.first.IsZero() {
		soon := later(earlier(p.last.Add(quiet), p.first.Add(longest)), p.rest)
		if !ok || soon.Before(at) {
			at, ok = soon, true
		}
	}
	if !p.retry.IsZero() {
		// An event does not hasten a turn after a failure: a storm would have it fail
		// in a storm.
		at, ok = p.retry, true
	}
	return at, ok
}

// Begin notes that a turn begins: it sees all that happened until now.
func (p *Pace) Begin() {
	p.first, p.last, p.retry = time.Time{}, time.Time{}, time.Time{}
	p.firstHandled, p.lastHandled = time.Time{}, time.Time{}
}

// Done notes that the turn went well.
func (p *Pace) Done(began, ended time.Time) {
	p.failures = 0
	p.took = min(ended.Sub(began), slowest)
	p.rest = ended.Add(p.took)
}

// Failed notes that the turn failed. It is tried again after 100 ms, and twice
// that each time, up to most.
func (p *Pace) Failed(ended time.Time, most time.Duration) {
	p.retry = ended.Add(min(firstRetry<<min(p.failures, 16), most))
	p.failures++
}

// Failures is how many turns have failed since one went well.
func (p *Pace) Failures() int { return int(p.failures) }

// Reset forgets the failures, because their cause may be mended, and
// has a turn due at once.
func (p *Pace) Reset(now time.Time) {
	p.failures, p.retry, p.rest = 0, time.Time{}, time.Time{}
	p.Event(now)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
