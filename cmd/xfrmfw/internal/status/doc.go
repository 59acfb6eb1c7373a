// Package status makes one report of the data that the kernel, the live rules and the
// IKE daemon's hook have on each tunnel, and renders it as text and JSON.
//
// It reads nothing by itself and judges nothing: package plan compares the rules. A text
// that a peer may have chosen, such as its identity, is escaped, so that it can't act on
// a terminal or pass for a line of xfrmfw.
package status
