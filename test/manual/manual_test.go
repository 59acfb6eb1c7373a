package manual

import (
	"reflect"
	"testing"
)

func TestSection(t *testing.T) {
	const text = "# A\n\n    not this\n\n## B\n\ntext\n\n1. first:\n\n       one\n         two\n\n       three\n\n   more\n\n    four\n" +
		"```\n    output\n```\n\n    five\n### C\n    not this\n"
	blocks, found := section(text, "## B")
	want := []Block{{Line: 11, Text: "one\n  two\n\nthree\n"}, {Line: 18, Text: "four\n"}, {Line: 23, Text: "five\n"}}
	if !found || !reflect.DeepEqual(blocks, want) {
		t.Errorf("%v, %+v\nwant %+v", found, blocks, want)
	}
	if _, found := section(text, "## D"); found {
		t.Error("found a section that is not there")
	}
}

func TestExamples(t *testing.T) {
	const text = "# xfrmfw no\nno\n```\n# xfrmfw one -a\nout\n\n# put\n# xfrmfw two\nno\n```\nno\n```\n# xfrmfw one -b\nmore\n```\n"
	want := []Example{
		{Line: 4, Command: "xfrmfw one -a", Output: "out\n\n# put\n"},
		{Line: 13, Command: "xfrmfw one -b", Output: "more\n"},
	}
	if got := examples(text, "xfrmfw one"); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

func TestDocuments(t *testing.T) {
	names := map[string]bool{}
	for _, d := range Documents(t) {
		names[d.Name] = d.Text != ""
	}
	for _, want := range []string{"README.md", "cmd/xfrmfw/man/xfrmfw.7.md"} {
		if !names[want] {
			t.Errorf("%s is missing or empty in %v", want, names)
		}
	}
}
