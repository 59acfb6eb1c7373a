//go:build race

package faults

// race has the program be built with the race detector too.
const race = true
