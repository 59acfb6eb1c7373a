// Package lab makes networks with real IPsec for end-to-end tests: network namespaces joined by veth pairs, security
// associations added by ip xfrm, traffic, an attacker that forges packets, and taps that count packets on the wire.
//
// It runs as root in the virtual machine that scripts/lab boots, because ESP, XFRM interfaces and the offload modules
// are rarely all there in the kernel of the machine that runs the tests. Each test has its own namespaces, which are
// removed when it ends.
//
// The package is independent of the firewall under test; Host.Xfrmfw runs the program at the path in XFRMFW_BIN.
package lab
