package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// hostGroups are the multicast groups of a snapshot's host: links,
// addresses, routes and routing rules (RTNLGRP_*).
var hostGroups = [...]int{
	unix.RTNLGRP_LINK,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
	unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
}

// WatchHost is Watch for the host's links, addresses, routes and routing rules.
// Resolvers and loaded modules have no notifications: a look at an interval finds
// them.
func WatchHost() (*Watcher, error) {
	c, err := dialTo(unix.NETLINK_ROUTE, make([]byte, bufferSize), hostGroups[:]...)
	if err != nil {
		return nil, fmt.Errorf("watch the host: %w", err)
	}
	w := newWatcher(c)
	w.look = func(message) bool { return true }
	return w, nil
}
