package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Netlink messages add tens of thousands of states and policies. They replace ip xfrm
// here, because ip opens a socket for each state or policy, and system calls take long in
// user-mode Linux. The layouts are those of linux/xfrm.h.
const (
	newSA, newPolicy  = 0x10, 0x13 // XFRM_MSG_NEWSA, XFRM_MSG_NEWPOLICY
	attrTemplate      = 5          // XFRMA_TMPL
	attrAEAD          = 18         // XFRMA_ALG_AEAD
	sizeSA            = 224        // struct xfrm_usersa_info
	sizePolicy        = 168        // struct xfrm_userpolicy_info
	sizeTemplate      = 64         // struct xfrm_user_tmpl
	modeTunnel        = 1
	flagAnyFamily     = 32  // XFRM_STATE_AF_UNSPEC
	messagesAtOnce    = 200 // well below the limit of a socket in one call
	inDir, outDir     = 0, 1
	forwardDir        = 2
	everyAlgorithm    = ^uint32(0)
	offsetFirstLimits = 56 // behind struct xfrm_selector, where a policy has its limits
)

var native = binary.NativeEndian

// put writes an address as the xfrm_address_t at the start of b.
func put(b []byte, a netip.Addr) { copy(b, a.AsSlice()) }

// unlimited writes the struct xfrm_lifetime_cfg of a state or policy that never expires
// at the start of b.
func unlimited(b []byte) {
	for i := range 4 {
		native.PutUint64(b[8*i:], ^uint64(0))
	}
}

func familyNumber(a netip.Addr) uint16 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// attribute appends a netlink attribute.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = native.AppendUint16(b, uint16(4+len(value)))
	b = native.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(b)&3)...)
}

// message appends a netlink message that creates something.
func message(b []byte, kind uint16, body []byte) []byte {
	b = native.AppendUint32(b, uint32(unix.SizeofNlMsghdr+len(body)))
	b = native.AppendUint16(b, kind)
	b = native.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b = append(b, make([]byte, 8)...)
	return append(b, body...)
}

// tunnelSA is the body of the message for an SA in tunnel mode, as SA.line has it.
func tunnelSA(src, dst netip.Addr, spi, reqid uint32) []byte {
	b := make([]byte, sizeSA)
	put(b[56:], dst)
	binary.BigEndian.PutUint32(b[72:], spi)
	b[76] = unix.IPPROTO_ESP
	put(b[80:], src)
	unlimited(b[96:])
	native.PutUint32(b[208:], reqid)
	native.PutUint16(b[212:], familyNumber(dst))
	b[214], b[215], b[216] = modeTunnel, 32, flagAnyFamily
	key := Key(spi)
	algorithm := make([]byte, 72, 72+len(key))
	copy(algorithm, "rfc4106(gcm(aes))")
	native.PutUint32(algorithm[64:], uint32(8*len(key)))
	native.PutUint32(algorithm[68:], 128)
	return attribute(b, attrAEAD, append(algorithm, key...))
}

// tunnelPolicy is the body of the message for a policy with one template in tunnel mode, as Policy.line has it.
func tunnelPolicy(dir byte, src, dst netip.Prefix, priority uint32, outerSrc, outerDst netip.Addr, reqid uint32) []byte {
	b := make([]byte, sizePolicy)
	put(b, dst.Addr())
	put(b[16:], src.Addr())
	native.PutUint16(b[40:], familyNumber(dst.Addr()))
	b[42], b[43] = byte(dst.Bits()), byte(src.Bits())
	unlimited(b[offsetFirstLimits:])
	native.PutUint32(b[152:], priority)
	b[160] = dir
	template := make([]byte, sizeTemplate)
	put(template, outerDst)
	template[20] = unix.IPPROTO_ESP
	native.PutUint16(template[24:], familyNumber(outerDst))
	put(template[28:], outerSrc)
	native.PutUint32(template[44:], reqid)
	template[48] = modeTunnel
	for _, at := range []int{52, 56, 60} {
		native.PutUint32(template[at:], everyAlgorithm)
	}
	return attribute(b, attrTemplate, template)
}

// A bulk sends messages to the kernel of a host, many at once.
type bulk struct {
	fd       int
	messages []byte
	last     int // where the last message begins
	count    int
}

// newBulk opens the socket in the network of the calling thread.
func newBulk() (*bulk, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_XFRM)
	return &bulk{fd: fd}, err
}

func (b *bulk) close() { _ = unix.Close(b.fd) }

// add queues a message, and sends them when they are many.
func (b *bulk) add(kind uint16, body []byte) error {
	b.last = len(b.messages)
	b.messages = message(b.messages, kind, body)
	if b.count++; b.count < messagesAtOnce {
		return nil
	}
	return b.send()
}

// send sends the queued messages and waits for the answer to the last one. The kernel
// answers the others only if they failed.
func (b *bulk) send() error {
	if b.count == 0 {
		return nil
	}
	flags := b.messages[b.last+6:]
	native.PutUint16(flags, native.Uint16(flags)|unix.NLM_F_ACK)
	if err := unix.Sendto(b.fd, b.messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	b.messages, b.count = b.messages[:0], 0
	answer := make([]byte, 1<<16)
	n, _, err := unix.Recvfrom(b.fd, answer, 0)
	if err != nil {
		return err
	}
	if n < 20 || native.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("an answer of %d bytes that is none", n)
	}
	if code := int32(native.Uint32(answer[16:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
