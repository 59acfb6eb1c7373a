package kernel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestReadPolicies(t *testing.T) {
	netns(t)
	const tmpl = " tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel reqid 11"
	tunnel := xfrm.Template{
		Family: xfrm.IPv4, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
		Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 11,
	}
	any4 := netip.MustParseAddr("0.0.0.0")
	any6 := netip.MustParseAddr("::")
	port := func(n uint16) xfrm.PortMatch { return xfrm.PortMatch{Port: n, Mask: 0xffff} }
	tests := []struct {
		add  string // after "ip xfrm policy add"
		want xfrm.Policy
	}{
		{"src 10.1.0.0/24 dst 10.2.0.0/24 dir in priority 7" + tmpl, xfrm.Policy{
			Selector: selector("10.1.0.0/24", "10.2.0.0/24"), Priority: 7, Templates: []xfrm.Template{tunnel},
		}},
		{"src 10.1.0.9/24 dst 10.2.0.0/24 dir fwd" + tmpl, xfrm.Policy{
			Selector: selector("10.1.0.0/24", "10.2.0.0/24"), Dir: xfrm.Fwd, Templates: []xfrm.Template{tunnel},
		}},
		{"src 2001:db8::/32 dst fd00:1::/64 dir out" + tmpl, xfrm.Policy{
			Selector: selector("2001:db8::/32", "fd00:1::/64"), Dir: xfrm.Out, Templates: []xfrm.Template{tunnel},
		}},
		{"src ::/0 dst ::/0 dir in tmpl src 2001:db8:: dst fd00:: proto esp mode beet reqid 3", xfrm.Policy{
			Selector: selector("::/0", "::/0"),
			Templates: []xfrm.Template{{
				Family: xfrm.IPv6, Src: netip.MustParseAddr("2001:db8::"), Dst: netip.MustParseAddr("fd00::"),
				Proto: xfrm.ESP, Mode: xfrm.BEETMode, Reqid: 3,
			}},
		}},
		{"src 0.0.0.0/0 dst 10.0.0.0/8 proto tcp sport 1024 dport 443 dir out", xfrm.Policy{
			Selector: with(selector("0.0.0.0/0", "10.0.0.0/8"), func(s *xfrm.Selector) {
				s.Proto, s.SPort, s.DPort = xfrm.TCP, port(1024), port(443)
			}),
			Dir: xfrm.Out,
		}},
		{"src fe80::/10 dst ff02::/16 proto ipv6-icmp type 135 dir in", xfrm.Policy{
			Selector: with(selector("fe80::/10", "ff02::/16"), func(s *xfrm.Selector) {
				s.Proto, s.SPort = xfrm.ICMPv6, port(135)
			}),
		}},
		{"src 10.0.0.0/8 dst 10.0.0.0/8 dev lo dir in action block flag localok", xfrm.Policy{
			Selector: with(selector("10.0.0.0/8", "10.0.0.0/8"), func(s *xfrm.Selector) { s.Ifindex = 1 }),
			Action:   xfrm.Block, Flags: 1,
		}},
		{"src 10.3.0.0/16 dst 10.4.0.0/16 dir in mark 0x2a mask 0xff if_id 0x2b flag icmp", xfrm.Policy{
			Selector: selector("10.3.0.0/16", "10.4.0.0/16"), Mark: xfrm.Mark{Value: 0x2a, Mask: 0xff}, IfID: 0x2b, Flags: 2,
		}},
		{"src 10.3.0.0/16 dst 10.4.0.0/16 dir in ptype sub tmpl proto comp mode tunnel level use reqid 1 tmpl proto esp reqid 2", xfrm.Policy{
			Selector: selector("10.3.0.0/16", "10.4.0.0/16"), Type: xfrm.Sub,
			Templates: []xfrm.Template{
				{Family: xfrm.IPv4, Src: any4, Dst: any4, Proto: xfrm.Comp, Mode: xfrm.TunnelMode, Reqid: 1, Optional: true},
				{Family: xfrm.IPv4, Src: any4, Dst: any4, Proto: xfrm.ESP, Reqid: 2},
			},
		}},
		{"src fd00::/8 dst fd00::/8 dir in" + strings.Repeat(" tmpl proto ah mode transport", 6), xfrm.Policy{
			Selector:  selector("fd00::/8", "fd00::/8"),
			Templates: repeat(xfrm.Template{Family: xfrm.IPv6, Src: any6, Dst: any6, Proto: xfrm.AH}, 6),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.add, func(t *testing.T) {
			netns(t)
			tryIP(t, "policy", "xfrm policy add "+tt.add)
			s := read(t)
			if len(s.Policies) != 1 || len(s.States) != 0 {
				t.Fatalf("got %+v", s)
			}
			got := s.Policies[0]
			if got.Index == 0 {
				t.Error("no index")
			}
			got.Index = 0
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// An IKE daemon exempts its own sockets like this.
func TestReadSocketPolicy(t *testing.T) {
	netns(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	info := make([]byte, 168) // struct xfrm_userpolicy_info
	native.PutUint16(info[40:], unix.AF_INET)
	info[160] = 1                                                                        // out
	if err := unix.SetsockoptString(fd, unix.IPPROTO_IP, 17, string(info)); err != nil { // IP_XFRM_POLICY
		t.Fatal(err)
	}
	s := read(t)
	if len(s.Policies) != 1 || s.Policies[0].Dir != xfrm.SocketOut || !s.Policies[0].Socket() || !s.Policies[0].Bypass() {
		t.Errorf("got %+v, want one bypass of a socket", s.Policies)
	}
}

func TestReadLarvalStates(t *testing.T) {
	netns(t)
	ip(t, "xfrm state allocspi src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel reqid 7 min 0xc0000001 max 0xc0000001")
	ip(t, "xfrm state allocspi src 2001:db8:: dst fd00:: proto esp mode transport reqid 8 min 0x1000 max 0x1000")
	s := read(t)
	for i := range s.States {
		if s.States[i].AddTime == 0 || s.States[i].Lifetime.Add == 0 {
			t.Errorf("state %d has no times: %+v", i, s.States[i])
		}
		s.States[i].AddTime, s.States[i].Lifetime = 0, xfrm.Lifetime{}
	}
	want := []xfrm.State{
		{
			Family: xfrm.IPv4, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
			SPI: 0xc0000001, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 7,
		},
		{
			Family: xfrm.IPv6, Src: netip.MustParseAddr("2001:db8::"), Dst: netip.MustParseAddr("fd00::"),
			SPI: 0x1000, Proto: xfrm.ESP, Reqid: 8,
		},
	}
	if !reflect.DeepEqual(s.States, want) {
		t.Errorf("got  %+v\nwant %+v", s.States, want)
	}
	if !s.States[0].Larval() {
		t.Error("not larval")
	}
}

// Real states with keys, where the kernel has ESP.
func TestReadStates(t *testing.T) {
	netns(t)
	const key = "0x5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7"
	tryIP(t, "esp", "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0xc0000001 reqid 11 mode tunnel"+
		" aead rfc4106(gcm(aes)) "+key+" 128 mark 0x2a mask 0xff output-mark 0x100000 mask 0x300000 if_id 9"+
		" encap espinudp 4500 61000 0.0.0.0 replay-window 32 flag esn limit packet-hard 1000 extra-flag dont-encap-dscp"+
		" sel src 10.1.0.0/24 dst 10.2.0.0/24")
	tryIP(t, "esp", "xfrm state add src 2001:db8:: dst fd00:: proto esp spi 1 reqid 12 mode transport"+
		" enc cbc(aes) 0x5ec7e75ec7e75ec7e75ec7e75ec7e700 auth-trunc hmac(sha256) 0x"+strings.Repeat("5ec7e700", 8)+" 128")
	s := read(t)
	want := []xfrm.State{
		{
			Family: xfrm.IPv4, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
			SPI: 0xc0000001, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 11, IfID: 9,
			Mark: xfrm.Mark{Value: 0x2a, Mask: 0xff}, SetMark: xfrm.Mark{Value: 0x100000, Mask: 0x300000},
			Encap:    xfrm.Encap{Type: 2, SPort: 4500, DPort: 61000},
			Selector: selector("10.1.0.0/24", "10.2.0.0/24"),
			Flags:    128, ESN: true, ExtraFlags: 1, ReplayWindow: 32,
			Algs:     xfrm.Algs{AEAD: "rfc4106(gcm(aes))", ICVBits: 128},
			Lifetime: xfrm.Lifetime{Packets: 1000},
		},
		{
			Family: xfrm.IPv6, Src: netip.MustParseAddr("2001:db8::"), Dst: netip.MustParseAddr("fd00::"),
			SPI: 1, Proto: xfrm.ESP, Reqid: 12, Selector: selector("::/0", "::/0"),
			Algs: xfrm.Algs{Crypt: "cbc(aes)", Auth: "hmac(sha256)", ICVBits: 128},
		},
	}
	for i := range s.States {
		s.States[i].AddTime = 0
	}
	if !reflect.DeepEqual(s.States, want) {
		t.Errorf("got  %+v\nwant %+v", s.States, want)
	}
	marshalled, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(marshalled), fmt.Sprintf("%+v", s)} {
		if strings.Contains(text, "5ec7e7") || strings.Contains(text, "\x5e\xc7\xe7") {
			t.Errorf("key found in %s", text)
		}
	}
}

func TestReadAgain(t *testing.T) {
	netns(t)
	for i := range 100 {
		ip(t, fmt.Sprintf("xfrm policy add src 10.0.%d.0/24 dst 10.1.0.0/24 dir in tmpl proto esp reqid %d", i, i+1))
	}
	// A buffer too small for any message has to grow.
	r := Reader{policies: dumper{buf: make([]byte, 64)}}
	var first []byte
	for range 3 {
		s, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Time = 0
		var b bytes.Buffer
		if err := s.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b.Bytes()
		}
		if !bytes.Equal(first, b.Bytes()) {
			t.Fatalf("same kernel, other bytes:\n%s\nand\n%s", first, b.Bytes())
		}
		if len(s.Policies) != 100 || s.Policies[99].Templates[0].Reqid != 100 {
			t.Errorf("got %d policies", len(s.Policies))
		}
		if !bytes.Equal(r.policies.buf, make([]byte, len(r.policies.buf))) {
			t.Error("the receive buffer still holds messages")
		}
	}
}

func TestReadCanceled(t *testing.T) {
	netns(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// In another user namespace root has no rights over this network namespace.
func TestWithoutPermission(t *testing.T) {
	netns(t)
	for _, what := range []string{"read", "watch"} {
		c := exec.Command("/proc/self/exe")
		c.Env = append(os.Environ(), envHelper+"="+what)
		c.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		}
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitPermission {
			t.Errorf("%s: got %v: %s; want ErrPermission", what, err, out)
		}
		if !strings.Contains(string(out), "CAP_NET_ADMIN") {
			t.Errorf("%s: no remedy in %q", what, out)
		}
	}
}

func TestExplain(t *testing.T) {
	tests := []struct {
		errno, want error
	}{
		{unix.EPERM, ErrPermission},
		{unix.EACCES, ErrPermission},
		{unix.EPROTONOSUPPORT, ErrNoXFRM},
		{unix.ECONNREFUSED, ErrNoXFRM},
		{unix.EOPNOTSUPP, ErrNoXFRM},
		{unix.EINVAL, unix.EINVAL},
	}
	for _, tt := range tests {
		err := explain(fmt.Errorf("act: %w", tt.errno))
		if !errors.Is(err, tt.want) || !errors.Is(err, tt.errno) {
			t.Errorf("%v: got %v, want %v", tt.errno, err, tt.want)
		}
	}
}

func selector(src, dst string) xfrm.Selector {
	s := xfrm.Selector{Family: xfrm.IPv4, Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}
	if s.Dst.Addr().Is6() {
		s.Family = xfrm.IPv6
	}
	return s
}

func with[T any](v T, set func(*T)) T {
	set(&v)
	return v
}

func repeat[T any](v T, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v
	}
	return all
}
