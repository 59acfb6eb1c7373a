// Package nudge is the Unix socket by which a hook wakes the daemon. A nudge
// carries nothing but that somebody made one: the daemon then looks at the
// kernel, and at nothing that the hook says. A hook's news goes
// another way, through records that are read and distrusted.
package nudge
