// Package lab makes networks with real IPsec for end-to-end tests: network namespaces joined by veth pairs, security
// associations added by ip xfrm, traffic, an attacker who forges packets, and taps that count what is on the wire.
//
// It runs as root in the virtual machine that scripts/lab boots, because ESP, XFRM interfaces and the offload modules
// are rarely all there in the kernel of the machine that runs the tests. Each test has its own namespaces, and what a
// test made is removed when it ends.
//
// The package does not know the firewall under test; Host.Xfrmfw runs the program whose path is in XFRMFW_BIN.
package lab
