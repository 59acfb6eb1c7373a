package wire

// Constants of include/uapi/linux/netfilter/nf_tables.h that x/sys has not.
const (
	nftaTableUserdata = 6
	nftaTableOwner    = 7

	nftaChainUserdata = 12

	nftSetConcat         = 0x80
	nftaSetDescConcat    = 2
	nftaSetFieldLen      = 1
	nftaSetExpr          = 17
	nftaSetExpressions   = 18
	nftaSetElemKeyEnd    = 10
	nftaSetElemExprs     = 11
	nftaSetElemUserdata  = 6
	nftMetaSecpath       = 25
	nftMetaInKind        = 26
	nftMetaOutKind       = 27
	nftRtXfrm            = 4
	nftaBitwiseOp        = 6
	nftXfrmDaddr4        = 1
	nftXfrmDaddr6        = 2
	nftXfrmSaddr4        = 3
	nftXfrmSaddr6        = 4
	nftXfrmReqid         = 5
	nftXfrmSPI           = 6
	nftaXfrmDreg         = 1
	nftaXfrmKey          = 2
	nftaXfrmDir          = 3
	nftaXfrmSpnum        = 4
	nftRejectICMPX       = 2
	nftRejectTCPReset    = 1
	natRangeMapIPs       = 1
	tcpOptMaxseg         = 2
	defaultLogLevel      = 4
	verdictType          = 0xffffff00
	nfAccept             = 1
	nfDrop               = 0
	registerWords        = 16
	anonymousSetTemplate = "__set%d"
)

// Kinds of expressions, datatypes and userdata as libnftables numbers them. The
// kernel does not look at them: they tell the nft program how to print a set.
const (
	udataComment      = 0 // of tables, chains, rules and elements
	udataSetKeyOrder  = 0
	udataSetDataOrder = 1
	udataSetKeyType   = 3
	udataSetDataType  = 4
	udataSetComment   = 7
	udataExprKind     = 0
	udataExprData     = 1
	udataField        = 16 // of xfrmfw alone; nft passes over it

	orderHost    = 1
	orderNetwork = 2

	exprVerdict = 1
	exprPayload = 7
	exprExthdr  = 8
	exprMeta    = 9
	exprCt      = 12
	exprConcat  = 13

	typeBits = 6 // of one field's datatype in that of a concatenation
)
