// Package metrics serves the daemon's knowledge in Prometheus' text format.
//
// A scrape never waits for the daemon's work, nor makes it wait: the tunnels'
// counters are read apart from it, only when someone asks, and seldom enough
// that nobody can keep the host busy by asking. The number of series is bounded,
// and nothing that a peer chose is part of one.
package metrics
