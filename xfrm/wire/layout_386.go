package wire

// On 386 the structs with 64-bit members are aligned to four bytes, and a
// 64-bit kernel translates its messages to that layout for 32-bit programs.
const (
	stateSize  = 220 // struct xfrm_usersa_info
	policySize = 164 // struct xfrm_userpolicy_info
)
