package lab

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// keyStem are the first 16 bytes of the key of every SA; the SPI is the salt after it.
var keyStem = []byte("\xc0\xff\xee\x5e\xc2\xe7Lab\x99\xd0\x0d\xfe\xed\xbe\xad")

// Key are the key bytes of the SA with that SPI, as for rfc4106(gcm(aes)): 16 of key and 4 of salt.
func Key(spi uint32) []byte {
	return append(append([]byte(nil), keyStem...), byte(spi>>24), byte(spi>>16), byte(spi>>8), byte(spi))
}

// KeyIn returns the form in which a text holds key bytes of the lab's SAs, or nothing if it holds none. A test of the
// program's outputs fails on anything but nothing.
func KeyIn(text string) string {
	lower := strings.ToLower(text)
	plainBytes := strings.Trim(fmt.Sprint(keyStem), "[]")
	switch {
	case strings.Contains(lower, hex.EncodeToString(keyStem)):
		return "hexadecimal"
	case strings.Contains(text, base64.StdEncoding.EncodeToString(keyStem[:15])),
		strings.Contains(text, base64.URLEncoding.EncodeToString(keyStem[:15])):
		return "base64"
	case strings.Contains(text, plainBytes):
		return "decimal bytes"
	case strings.Contains(text, string(keyStem)):
		return "raw bytes"
	}
	return ""
}

// A Mark is a value and the mask of bits that count. The zero Mark is none.
type Mark struct{ Value, Mask uint32 }

// A Mode is how ESP wraps a packet.
type Mode string

// The modes of an SA.
const (
	Tunnel    Mode = "tunnel"
	Transport Mode = "transport"
	BEET      Mode = "beet"
)

// An SA is one security association, as ip xfrm state adds it. The zero Proto is esp and the zero Mode is tunnel.
type SA struct {
	Src, Dst   netip.Addr
	Proto      string // esp, ah or comp
	SPI        uint32
	Mode       Mode
	Reqid      uint32
	NATT       bool   // UDP encapsulation, both ports 4500
	CBC        bool   // cbc(aes) and hmac(sha256) in place of rfc4106(gcm(aes))
	Mark       Mark   // the mark of the packets that find the SA
	OutputMark Mark   // the SA's change to the mark of its packets
	IfID       uint32 // of an XFRM interface
	Flags      string // further words of ip xfrm state add
}

// line is the ip command that adds the SA.
func (s SA) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "xfrm state add %s mode %s reqid %d", s.id(), orTunnel(s.Mode), s.Reqid)
	if orESP(s.Proto) != "comp" {
		b.WriteString(" replay-window 32") // IPComp has no sequence numbers, and would fail the check
	}
	if orTunnel(s.Mode) == Tunnel {
		b.WriteString(" flag af-unspec") // inner packets of either family, as IKE daemons set it
	}
	key := Key(s.SPI)
	switch {
	case orESP(s.Proto) == "comp":
		b.WriteString(" comp deflate")
	case orESP(s.Proto) == "ah":
		fmt.Fprintf(&b, " auth-trunc hmac(sha256) 0x%x%x 128", key[:16], key[:16])
	case s.CBC:
		fmt.Fprintf(&b, " enc cbc(aes) 0x%x auth-trunc hmac(sha256) 0x%x%x 128", key[:16], key[:16], key[:16])
	default:
		fmt.Fprintf(&b, " aead rfc4106(gcm(aes)) 0x%x 128", key)
	}
	if s.NATT {
		fmt.Fprintf(&b, " encap espinudp 4500 4500 0.0.0.0")
	}
	if s.OutputMark != (Mark{}) {
		fmt.Fprintf(&b, " output-mark 0x%x mask 0x%x", s.OutputMark.Value, s.OutputMark.Mask)
	}
	if s.IfID != 0 {
		fmt.Fprintf(&b, " if_id 0x%x", s.IfID)
	}
	if s.Flags != "" {
		b.WriteString(" " + s.Flags)
	}
	return b.String()
}

// id is how the SA is named in ip xfrm state.
func (s SA) id() string {
	id := fmt.Sprintf("src %s dst %s proto %s spi 0x%x", s.Src, s.Dst, orESP(s.Proto), s.SPI)
	return id + s.Mark.words()
}

// deletion is the ip command that deletes the SA.
func (s SA) deletion() string { return "xfrm state delete " + s.id() }

// A Template is one transformation that a policy requires. The zero Proto is esp, and the
// zero Mode is tunnel. A template without addresses takes those of the packet.
type Template struct {
	Src, Dst netip.Addr
	Proto    string
	Mode     Mode
	Reqid    uint32
	Optional bool // level use: a packet without it passes too
}

// A Policy is one entry of the kernel's SPD, as ip xfrm policy adds it.
type Policy struct {
	Dir       string // in, out or fwd
	Src, Dst  netip.Prefix
	Upper     string // further words of the selector, such as proto gre, or proto tcp dport 80
	Block     bool
	Priority  uint32
	Mark      Mark
	IfID      uint32
	Templates []Template
}

// line is the ip command that adds the policy.
func (p Policy) line() string {
	var b strings.Builder
	b.WriteString("xfrm policy add " + p.id())
	if p.Block {
		b.WriteString(" action block")
	}
	if p.Priority != 0 {
		fmt.Fprintf(&b, " priority %d", p.Priority)
	}
	if p.IfID != 0 {
		fmt.Fprintf(&b, " if_id 0x%x", p.IfID)
	}
	for _, tmpl := range p.Templates {
		b.WriteString(" tmpl")
		if tmpl.Src.IsValid() {
			fmt.Fprintf(&b, " src %s dst %s", tmpl.Src, tmpl.Dst)
		}
		fmt.Fprintf(&b, " proto %s reqid %d mode %s", orESP(tmpl.Proto), tmpl.Reqid, orTunnel(tmpl.Mode))
		if tmpl.Optional {
			b.WriteString(" level use")
		}
	}
	return b.String()
}

// id is how the policy is named in ip xfrm policy.
func (p Policy) id() string {
	id := fmt.Sprintf("src %s dst %s", p.Src, p.Dst)
	if p.Upper != "" {
		id += " " + p.Upper
	}
	return id + " dir " + p.Dir + p.Mark.words()
}

// deletion is the ip command that deletes the policy.
func (p Policy) deletion() string {
	line := "xfrm policy delete " + p.id()
	if p.IfID != 0 {
		line += fmt.Sprintf(" if_id 0x%x", p.IfID)
	}
	return line
}

// lines are the ip commands for each of a list.
func lines[T any](list []T, line func(T) string) []string {
	var all []string
	for _, one := range list {
		all = append(all, line(one))
	}
	return all
}

// Batch are the lines of ip -batch that add security associations and policies, for a script of a test.
func Batch(sas []SA, policies []Policy) string {
	return strings.Join(append(lines(sas, SA.line), lines(policies, Policy.line)...), "\n") + "\n"
}

// AddSAs adds security associations to the host.
func (h *Host) AddSAs(t testing.TB, sas ...SA) {
	t.Helper()
	h.IP(t, lines(sas, SA.line)...)
}

// DeleteSAs deletes security associations from the host.
func (h *Host) DeleteSAs(t testing.TB, sas ...SA) {
	t.Helper()
	h.IP(t, lines(sas, SA.deletion)...)
}

// AddPolicies adds policies to the host.
func (h *Host) AddPolicies(t testing.TB, policies ...Policy) {
	t.Helper()
	h.IP(t, lines(policies, Policy.line)...)
}

// DeletePolicies deletes policies from the host.
func (h *Host) DeletePolicies(t testing.TB, policies ...Policy) {
	t.Helper()
	h.IP(t, lines(policies, Policy.deletion)...)
}

// FlushXFRM removes all SAs and policies of the host: nothing of the test's tunnels is left in the kernel. The further
// tunnels of a crowd stay.
func (h *Host) FlushXFRM(t testing.TB) {
	t.Helper()
	if h.crowd > 0 {
		h.IP(t, h.flushBesideCrowd(t, true)...)
		return
	}
	h.IP(t, "xfrm policy flush", "xfrm state flush")
}

// FlushSAs removes all SAs of the host but those of a crowd, and leaves the policies.
func (h *Host) FlushSAs(t testing.TB) {
	t.Helper()
	if h.crowd > 0 {
		h.IP(t, h.flushBesideCrowd(t, false)...)
		return
	}
	h.IP(t, "xfrm state flush")
}

// words are the mark in an ip command.
func (m Mark) words() string {
	if m == (Mark{}) {
		return ""
	}
	return fmt.Sprintf(" mark 0x%x mask 0x%x", m.Value, m.Mask)
}

func orTunnel(m Mode) Mode {
	if m == "" {
		return Tunnel
	}
	return m
}

func orESP(proto string) string {
	if proto == "" {
		return "esp"
	}
	return proto
}
