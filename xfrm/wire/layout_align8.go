//go:build !386

package wire

const (
	stateSize  = 224 // struct xfrm_usersa_info
	policySize = 168 // struct xfrm_userpolicy_info
)
