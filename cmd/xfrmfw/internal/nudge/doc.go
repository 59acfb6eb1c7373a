// Package nudge is the Unix socket by which a hook wakes the daemon. A nudge
// carries no data: the daemon then reads the kernel. Reports of the hook go another way,
// through records that package peers reads and distrusts.
package nudge
