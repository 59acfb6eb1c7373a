package firewall

import (
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestFreeMarks(t *testing.T) {
	for _, tt := range []struct {
		used uint32
		want Marks
		ok   bool
	}{
		{0, DefaultMarks(), true},
		{0x0fffffff, DefaultMarks(), true},
		{1 << 28, Marks{Tag: 1 << 30, Verified: 1 << 31}, true},
		{0xfff00000, Marks{Tag: 1 << 18, Verified: 1 << 19}, true},
		{^uint32(1), Marks{}, false},
		{^uint32(0), Marks{}, false},
	} {
		if got, ok := FreeMarks(tt.used); got != tt.want || ok != tt.ok {
			t.Errorf("%#x are used: %+v, %v; want %+v, %v", tt.used, got, ok, tt.want, tt.ok)
		}
	}
}

// TestCheckMarks: a routing rule clashes if it matches packets because of our bits. The
// rules without a mask are those of wg-quick, of an older tailscaled, and of guides for
// hosts with several uplinks.
func TestCheckMarks(t *testing.T) {
	const all = ^uint32(0)
	for _, tt := range []struct {
		name  string
		mark  xfrm.Mark
		err   string
		used  uint32
		other bool // compares our bits with 0
	}{
		{"one of our bits among others", xfrm.Mark{Value: 0x10000000, Mask: 0xff000000}, "0x10000000/0xff000000", 0xff000000, false},
		{"our bit alone", xfrm.Mark{Value: 1 << 29, Mask: 1 << 29}, "marks: auto", 1 << 29, false},
		{"our bit without a mask", xfrm.Mark{Value: 1<<28 | 1, Mask: all}, "tag: 0x40000000, verified: 0x80000000", 1<<28 | 1, false},
		{"all bits of the value", xfrm.Mark{Value: all, Mask: all}, "narrow", all, false},
		{"other bits", xfrm.Mark{Value: 1, Mask: 1}, "", 1, false},
		{"no mask: several uplinks", xfrm.Mark{Value: 1, Mask: all}, "", 1, true},
		{"no mask: tailscaled", xfrm.Mark{Value: 0x80000, Mask: all}, "", 0x80000, true},
		{"no mask: wg-quick", xfrm.Mark{Value: 0xca6c, Mask: all}, "", 0xca6c, true},
		{"our bits have to be 0", xfrm.Mark{Value: 1, Mask: 0xf000000f}, "", 0xf000000f, true},
	} {
		s := xfrm.Snapshot{Host: xfrm.Host{Rules: []xfrm.RoutingRule{{Priority: 100, Mark: tt.mark}}}}
		err := CheckMarks(s, 0, DefaultMarks())
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
		if used := UsedMarks(s, 0); used != tt.used {
			t.Errorf("%s: %#x are used, want %#x", tt.name, used, tt.used)
		}
		if other := len(UnmaskedRules(s.Host.Rules, DefaultMarks())) == 1; other != tt.other {
			t.Errorf("%s: compares our bits with 0: %v", tt.name, other)
		}
	}
	s := xfrm.Snapshot{Host: xfrm.Host{Rules: []xfrm.RoutingRule{{Priority: 100, Mark: xfrm.Mark{Value: 0x10000000, Mask: 0xff000000}}}}}
	if err := CheckMarks(s, 0xf00000, DefaultMarks()); err == nil || !strings.Contains(err.Error(), "{tag: 0x40000, verified: 0x80000}") {
		t.Errorf("bits that rules write are proposed: %v", err)
	}
	if err := CheckMarks(xfrm.Snapshot{}, 0, DefaultMarks()); err != nil {
		t.Errorf("nothing clashes: %v", err)
	}
}

// TestUsedMarks: states and policies use bits too.
func TestUsedMarks(t *testing.T) {
	s := xfrm.Snapshot{
		States:   []xfrm.State{{Mark: xfrm.Mark{Value: 1, Mask: 3}, SetMark: xfrm.Mark{Value: 4, Mask: ^uint32(0)}}},
		Policies: []xfrm.Policy{{Mark: xfrm.Mark{Value: 0x10, Mask: 0x30}}},
	}
	if used := UsedMarks(s, 0x100); used != 0x137 {
		t.Errorf("%#x are used, want 0x137", used)
	}
}
