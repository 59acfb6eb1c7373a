// Package explain finds the fate of one packet: the kernel's policy for it, the rules of
// xfrmfw that it meets, and the verdict of firewall.Judge with its case. It runs the
// evaluator of the tests over the compiled rules of iptables, and adds the kernel's own
// decisions by its policies.
//
// It evaluates no rules of other programs and no table of nftables. An explanation says
// so where such rules decide.
package explain
