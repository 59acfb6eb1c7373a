package kernel

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/follow"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// What a Follower makes of the kernel's notifications of policies and larval states, in
// any order, is what the kernel lists afterwards.
func TestFollower(t *testing.T) {
	netns(t)
	var mu sync.Mutex
	var notes []wire.Note
	var decoder wire.Decoder
	w, err := WatchFor(func(typ uint16, body []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		notes = append(notes, decoder.NoteOf(typ, body))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, w)
	take := func() []wire.Note {
		mu.Lock()
		defer mu.Unlock()
		taken := notes
		notes = nil
		return taken
	}
	r := rand.New(rand.NewPCG(18, 1))
	policy := func(verb string, n int, dir string) string {
		src, dst := fmt.Sprintf("10.%d.0.0/24", n), "192.168.0.0/24"
		peer, own := fmt.Sprintf("192.0.2.%d", n+1), "198.51.100.2"
		if dir == "out" {
			src, dst, peer, own = dst, src, own, peer
		}
		line := fmt.Sprintf("xfrm policy %s src %s dst %s dir %s", verb, src, dst, dir)
		if verb == "delete" {
			return line
		}
		return fmt.Sprintf("%s priority %d tmpl src %s dst %s proto esp reqid %d mode tunnel", line, 1+r.IntN(3), peer, own, n+1)
	}
	there := make(map[[2]int]bool)
	dirs := []string{"in", "fwd", "out"}
	events := uint64(0)
	change := func() {
		at := [2]int{r.IntN(6), r.IntN(3)}
		verb := "add"
		if there[at] {
			verb = []string{"update", "delete"}[r.IntN(2)]
		}
		there[at] = verb != "delete"
		ip(t, policy(verb, at[0], dirs[at[1]]))
		events++
	}
	for range 20 {
		change()
	}
	waitFor(t, func() bool { return w.Counts().Seen == events })
	s, err := Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Notifications of what the snapshot has already do no harm.
	f := follow.NewFollower(s)
	for round := range 12 {
		for range 1 + r.IntN(6) {
			change()
		}
		waitFor(t, func() bool { return w.Counts().Seen == events })
		before, after, ok := f.Take(take())
		if !ok {
			t.Fatalf("round %d: lost", round)
		}
		now, err := Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		concerned := make(map[uint32]bool)
		for _, p := range slices.Concat(before.Policies, after.Policies) {
			concerned[p.Templates[0].Reqid] = true
		}
		want := slices.DeleteFunc(now.Policies, func(p xfrm.Policy) bool { return !concerned[p.Templates[0].Reqid] })
		if len(want)+len(after.Policies) > 0 && !reflect.DeepEqual(after.Policies, want) {
			t.Errorf("round %d: follows\n%+v, want\n%+v", round, after.Policies, want)
		}
	}
	ip(t, "xfrm policy add src 10.0.0.0/8 dst 10.0.0.0/8 dir in priority 1")
	events++
	waitFor(t, func() bool { return w.Counts().Seen == events })
	if _, _, ok := f.Take(take()); ok {
		t.Error("a bypass policy is no tunnel's, and was followed")
	}
}
