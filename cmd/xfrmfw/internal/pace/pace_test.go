package pace

import (
	"testing"
	"time"
)

const ms = time.Millisecond

func TestPace(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	var p Pace
	due := func(what string, want time.Duration) {
		t.Helper()
		got, ok := p.Due()
		if !ok || !got.Equal(at(want)) {
			t.Errorf("%s: due at %v (%v), want %v", what, got.Sub(start), ok, want)
		}
	}
	idle := func(what string) {
		t.Helper()
		if got, ok := p.Due(); ok {
			t.Errorf("%s: due at %v", what, got.Sub(start))
		}
	}

	idle("nothing happened")
	p.Event(at(0))
	due("one event", 2*ms)
	p.Event(at(1 * ms))
	due("a second one", 3*ms)
	for i := range time.Duration(100) {
		p.Event(at(i * ms))
	}
	due("a storm that goes on", 20*ms)

	p.Begin()
	idle("a turn has begun")
	p.Event(at(30 * ms))
	p.Done(at(20*ms), at(420*ms))
	due("an event during a turn of 400 ms", 820*ms)
	p.Begin()
	p.Done(at(time.Second), at(time.Minute))
	idle("after the turn")
	p.Event(at(time.Minute))
	due("after a turn that took very long", time.Minute+slowest)

	p.Begin()
	p.Failed(at(100*time.Second), 10*time.Second)
	due("after a failure", 100*time.Second+100*ms)
	p.Event(at(100 * time.Second))
	due("an event after a failure", 100*time.Second+100*ms)
	for range 100 {
		p.Begin()
		p.Failed(at(200*time.Second), 10*time.Second)
	}
	due("after many failures", 210*time.Second)
	if p.Failures() != 101 {
		t.Errorf("%d failures, want 101", p.Failures())
	}
	p.Reset(at(201 * time.Second))
	due("after the cause may be gone", 201*time.Second+2*ms)
	p.Begin()
	p.Done(at(201*time.Second), at(201*time.Second))
	if p.Failures() != 0 {
		t.Errorf("%d failures after success", p.Failures())
	}
	idle("all is well")
}
