package manual

import (
	"reflect"
	"testing"
)

func TestSection(t *testing.T) {
	const text = "# A\n\n    not this\n\n## B\n\ntext\n\n1. first:\n\n       one\n         two\n\n       three\n\n   more\n\n    four\n" +
		"```\n    output\n```\n\n    five\n### C\n    not this\n"
	blocks, found := section(text, "## B")
	want := []Block{{11, "one\n  two\n\nthree\n"}, {18, "four\n"}, {23, "five\n"}}
	if !found || !reflect.DeepEqual(blocks, want) {
		t.Errorf("%v, %q\nwant %q", found, blocks, want)
	}
	if _, found := section(text, "## D"); found {
		t.Error("found a section that is not there")
	}
}

func TestExamples(t *testing.T) {
	const text = "# xfrmfw no\nno\n```\n# xfrmfw one -a\nout\n\n# put\n# xfrmfw two\nno\n```\nno\n```\n# xfrmfw one -b\nmore\n```\n"
	want := []Example{{4, "xfrmfw one -a", "out\n\n# put\n"}, {13, "xfrmfw one -b", "more\n"}}
	if got := examples(text, "xfrmfw one"); !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}
