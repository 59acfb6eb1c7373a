// Package peers keeps the reports of an IKE daemon's hook on the peer at the other end
// of a tunnel, and finds the tunnel that it was said of. A record never makes or
// changes a rule by its text: it is shown, and it selects among the entries that
// the administrator wrote. A report on a peer is for the most part the
// peer's own words, so that nothing of it names a file, and all of it is cleaned
// and bounded before it is kept.
//
// A record is kept by the selectors and the reqid that it was made for, which
// outlive a rekey of the states and of the IKE SA, and by its peer, so
// that two peers never write the same one.
package peers
