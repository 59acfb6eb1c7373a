// Package kernel reads the values of package xfrm from the running Linux
// kernel: states and policies over NETLINK_XFRM, links, addresses and routes
// over NETLINK_ROUTE, and from /sys and /lib/modules whether ESP is decrypted
// before iptables sees it. It always reads the network namespace that the
// process runs in. It changes nothing but conntrack entries, in ForgetRewritten.
//
// Messages about states hold their keys. They stay in a receive buffer that is
// wiped after every datagram; no value that leaves this package holds a key.
package kernel
