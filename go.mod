module github.com/xfrmfw/xfrmfw

go 1.24.0

require (
	github.com/vishvananda/netlink v1.3.1
	golang.org/x/sys v0.38.0
)

require (
	github.com/coreos/go-iptables v0.8.0 // indirect
	github.com/goccy/go-yaml v1.19.2 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
)
