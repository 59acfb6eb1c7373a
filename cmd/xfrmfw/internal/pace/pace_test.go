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

// Events that are in force already wait for a calm as long as the last turn tells.
func TestPaceOfHandledEvents(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	for _, tt := range []struct {
		name string
		took time.Duration
		do   func(p *Pace)
		want time.Duration
	}{
		{"before any turn", 0, func(p *Pace) { p.Handled(at(0)) }, 2 * ms},
		{"after a turn of 10 ms", 10 * ms, func(p *Pace) { p.Handled(at(0)) }, 40 * ms},
		{"a second one", 10 * ms, func(p *Pace) { p.Handled(at(0)); p.Handled(at(30 * ms)) }, 70 * ms},
		{"a storm that goes on", 10 * ms, func(p *Pace) {
			for i := range time.Duration(1000) {
				p.Handled(at(i * ms))
			}
		}, 200 * ms},
		{"after a turn that took very long", time.Minute, func(p *Pace) { p.Handled(at(time.Hour)) }, time.Hour + time.Second},
		{"one that is not in force", 10 * ms, func(p *Pace) { p.Handled(at(0)); p.Event(at(ms)) }, 3 * ms},
		{"one that is not, and later one that is", 10 * ms, func(p *Pace) { p.Event(at(0)); p.Handled(at(ms)) }, 2 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Pace
			p.Done(at(-tt.took-time.Hour), at(-time.Hour))
			tt.do(&p)
			if got, ok := p.Due(); !ok || !got.Equal(at(tt.want)) {
				t.Errorf("due at %v (%v), want %v", got.Sub(start), ok, tt.want)
			}
			p.Begin()
			if got, ok := p.Due(); ok {
				t.Errorf("a turn has begun: due at %v", got.Sub(start))
			}
		})
	}
}
