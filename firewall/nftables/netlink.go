package nftables

// Constants of netlink (include/uapi/linux/netlink.h and netfilter/nfnetlink.h) that x/sys
// has not, and the most bytes of elements in one message.
const (
	nfnlGroupNFTables = 7
	nfnlBatchGenID    = 1
	nlmsgerrAttrMsg   = 1
	nlmsgerrAttrOffs  = 2
	nlmFCapped        = 0x100
	nlmFAckTLVs       = 0x200
	maxElementMessage = 60_000
)
