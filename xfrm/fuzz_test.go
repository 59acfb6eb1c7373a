package xfrm_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// FuzzReadJSON reads hostile files. An accepted file must be valid and be written in a
// form that reads and writes alike.
func FuzzReadJSON(f *testing.F) {
	var b bytes.Buffer
	if err := fullSnapshot().WriteJSON(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.String())
	f.Add(`{"schema": 1, "states": null, "policies": [{}]}`)
	f.Add(`{"schema": 1, "host": {"links": [{"index": 1, "name": "lo"}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := xfrm.ReadJSON(strings.NewReader(text))
		if err != nil {
			return
		}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := sample.Rewritten(s); err != nil {
			t.Fatal(err)
		}
		s.Sort()
		if err := sample.Rewritten(s); err != nil {
			t.Fatal(err)
		}
	})
}
