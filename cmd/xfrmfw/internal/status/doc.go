// Package status makes one report of the data that the kernel, the live rules and the
// IKE daemon's hook have on each tunnel, and renders it as text and JSON.
//
// It reads nothing by itself and judges nothing: whether rules are right is for
// plan.Make to say. A text that a peer may have chosen, such as its identity, is
// shown so that it can't act on a terminal or be taken for xfrmfw's own words.
package status
