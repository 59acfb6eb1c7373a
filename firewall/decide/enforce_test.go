package decide

import "testing"

func TestFew(t *testing.T) {
	if got := few([]string{"a", "b", "c", "d", "e"}); got != "a; b; c; and 2 more" {
		t.Error(got)
	}
}
