// Package trace runs packets through rule sets as netfilter would, and names the case of the
// deciding rule (cases.go).
//
// It evaluates rules of xfrmfw alone, of iptables alone. A packet is a value, without
// fragments and time, and NAT is what the packet's conntrack entry says.
package trace
