package live_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
)

// written has the parser read text in parts of so many bytes.
func written(text []byte, part int) (live.Tables, error) {
	var p live.Parser
	for len(text) > 0 {
		n, _ := p.Write(text[:min(part, len(text))])
		text = text[n:]
	}
	return p.Tables()
}

// TestSaveParser: however the text is cut into parts, the result is the same, with
// comments that go on over lines wherever the parser's own pieces end.
func TestSaveParser(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(saved)
	b.WriteString("*filter\n:INPUT ACCEPT [0:0]\n:XFRMFW-X - [0:0]\n")
	for i := range 9000 {
		comment := fmt.Sprint("a", strings.Repeat("\nb", i%90), " ")
		fmt.Fprintf(&b, "[%d:0] -A INPUT -m comment --comment \"%s\" -j DROP\n", i, comment)
		if i%7 == 0 {
			fmt.Fprintf(&b, "[0:%d] -A XFRMFW-X -m comment --comment \"xfrmfw:abcdefghi_-9/jump\" -j RETURN\n", i)
		}
	}
	b.WriteString("COMMIT\n")
	want, err := live.Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(want.Tables[1].Chains[0].Rules); n != 9000 {
		t.Fatalf("%d rules were read, want 9000", n)
	}
	for _, part := range []int{1, 4096, 65537, 256 << 10, 1 << 30} {
		got, err := written(b.Bytes(), part)
		if err != nil {
			t.Fatalf("in parts of %d bytes: %v", part, err)
		}
		if !bytes.Equal(got.Append(nil), want.Append(nil)) || !cmp.Equal(want.Tables[0], got.Tables[0]) || !cmp.Equal(want.Unreadable, got.Unreadable) {
			t.Errorf("in parts of %d bytes something else is read", part)
		}
	}
}

// TestSaveParserErrors: text that can't be read is told with its line, and text that ends
// too early is no save.
func TestSaveParserErrors(t *testing.T) {
	many := "*filter\n:INPUT ACCEPT [0:0]\n" + strings.Repeat("[0:0] -A INPUT -s 10.0.0.0/8 -j ACCEPT\n", 20000)
	for _, tt := range []struct{ text, want string }{
		{many + "[0:0] -A OUTPUT\nCOMMIT\n", "line 20003: a rule of chain \"OUTPUT\""},
		{many + "[0:0] -A INPUT --comment \"a\nCOMMIT\n", "line 20003: "},
		{many, "ends without COMMIT"},
		{many[:len(many)-20], "ends without COMMIT"},
	} {
		_, whole := live.Parse([]byte(tt.text))
		_, err := written([]byte(tt.text), 4096)
		if err == nil || whole == nil || err.Error() != whole.Error() || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, and %v of the whole, want %q", err, whole, tt.want)
		}
	}
}
