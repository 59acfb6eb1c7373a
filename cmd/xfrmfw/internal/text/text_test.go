package text

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		most int
		want string
	}{
		{"office", 10, "office"},
		{"M\u00fcnchen \u6771\u4eac", 20, "M\u00fcnchen \u6771\u4eac"},
		{"a\x1bb\n\x7f", 20, `a\x1bb\x0a\x7f`},
		{"\xff\u009b\u202e", 30, `\xff\u{9b}\u{202e}`},
		{`\x1b`, 10, `\\x1b`},
		{"0123456789", 10, "0123456789"},
		{"0123456789a", 10, "0123456..."},
		{"012345\x1b", 10, `012345\x1b`},
		{"0123456\x1b", 10, `0123456...`},
		{"\u6771\u4eac\u6771\u4eac\u6771\u4eac", 10, "\u6771\u4eac\u6771..."},
	} {
		if got := Escape(tt.text, tt.most); got != tt.want || Columns(got) > tt.most {
			t.Errorf("Escape(%q, %d) = %s, want %s", tt.text, tt.most, got, tt.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b\u202e\xff", 9)
	f.Fuzz(func(t *testing.T, text string, most int) {
		most = 5 + max(0, most)%200
		for _, got := range []string{Escape(text, most), Label(text, most)} {
			if strings.ContainsFunc(got, Unseen) {
				t.Errorf("%q holds what is not seen", got)
			}
		}
		if got := Escape(text, most); Columns(got) > most {
			t.Errorf("%q takes %d columns, want at most %d", got, Columns(got), most)
		}
	})
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range []string{"0 tunnels", "1 tunnel", "2 tunnels"} {
		if got := Count(n, "tunnel"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestFirstOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		list []string
		want string
	}{
		{nil, ""}, {[]string{"a"}, "a"}, {[]string{"a", "b", "c"}, "a; b; c"}, {[]string{"a", "b", "c", "d", "e"}, "a; b; c; and 2 more"},
	} {
		if got := FirstOf(tt.list); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", []string{"in: "}},
		{"one line", "a bc", []string{"in: a bc"}},
		{"at a space", "abc def gh", []string{"in: abc", "    def gh"}},
		{"a word longer than a line", "abcdefghij k", []string{"in: abcdef", "    ghij k"}},
		{"wide characters", "\u6771\u4eac \u6771\u4eac", []string{"in: \u6771\u4eac", "    \u6771\u4eac"}},
	} {
		if diff := cmp.Diff(tt.want, Wrap(10, "in: ", tt.text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestFit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		most int
		want string
	}{
		{"office", 6, "office"}, {"office", 5, "offi~"}, {"\u6771\u4eac\u6771", 5, "\u6771\u4eac~"}, {"\u6771\u4eac\u6771", 4, "\u6771~"},
	} {
		if got := Fit(tt.text, tt.most); got != tt.want || Columns(got) > tt.most {
			t.Errorf("%q in %d columns is %q, want %q", tt.text, tt.most, got, tt.want)
		}
	}
}

func TestTextForTerminalsAndLogs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, got, want string }{
		{"an escape sequence", Visible("a\x1b[2J \\n"), "a\\x1b[2J \\n"},
		{"a newline in a log", OneLine(" a\nb\x1bc \n"), "a|b?c"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, tt.got, tt.want)
		}
	}
}
