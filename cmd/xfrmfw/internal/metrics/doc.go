// Package metrics serves the daemon's counters and states in Prometheus' text format.
//
// A scrape and the daemon's work never wait for each other: the tunnels' counters are
// read apart from the work, at a scrape, and so seldom that scrapes cannot keep the
// host busy. The number of series is bounded, and no text that a peer chose is part of
// one.
package metrics
