// Package peers keeps the reports of an IKE daemon's hook on the peer at the other end
// of a tunnel, and finds the tunnel of each report. A record never makes or changes a
// rule by its text: it is shown, and it selects among the entries that the administrator
// wrote. The peer chooses most words of a report, so no word names a file, and all are
// cleaned and bounded before they are kept.
//
// A record is kept by the selectors and the reqid that it was made for, which
// outlive a rekey of the states and of the IKE SA, and by its peer, so
// that two peers never write the same one.
package peers
