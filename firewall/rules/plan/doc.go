// Package plan finds the commits that lead from the live rules to the wanted ones, in an
// order in which no packet passes that neither would let through.
//
// A Tracker plans again and again for a daemon. Everything else here plans once. The package
// compares texts and runs no program; it knows no case.
package plan
