// Package explain tells the fate of one packet: which policy of the kernel
// claims it, which rules of xfrmfw it meets, and the verdict with its case. It
// runs the same evaluator over the same compiled rules as the tests do, and adds
// the kernel's own decisions by its policies.
//
// It knows no rules of others, neither in iptables nor in nftables: their effect
// on a packet that xfrmfw returns is left open, and said so.
package explain
