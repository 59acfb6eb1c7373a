package nftables

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
)

// A saved table comes back as it was, from another one and from none.
func TestRestore(t *testing.T) {
	c := open(t)
	for seed := range uint64(8) {
		_, in := fake.Variety(seed)
		f := decide.Facts(in)
		apply(t, c, program.Table(&f, program.Options{}))
		former := read(t, c)
		saved := Save(former)
		other := sets.Table{}
		if seed%2 == 0 {
			_, in = fake.Variety(seed + 100)
			f = decide.Facts(in)
			other = program.Table(&f, program.Options{})
		}
		apply(t, c, other)
		if err := c.Restore(program.Name, read(t, c), saved); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(bare(former.Table), bare(read(t, c).Table)); diff != "" {
			t.Fatalf("seed %d: saved -, restored +:\n%s", seed, diff)
		}
	}
	now := read(t, c)
	for _, damaged := range [][]byte{{1}, make([]byte, 40), Save(now)[:41]} {
		if err := c.Restore(program.Name, now, damaged); err == nil {
			t.Errorf("%d damaged bytes were taken", len(damaged))
		}
	}
	if err := c.Restore(program.Name, now, Save(State{})); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c); got.Table.Name != "" {
		t.Error("the table stays, though there was none")
	}
}
