package reconcile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// still is a source that counts, and never has a change committed.
type still struct {
	g               *gateway.Gateway
	known           bool
	lives, confirms int
}

func (s *still) Live(ctx context.Context) (gateway.Live, error) {
	s.lives++
	live, err := s.g.ReadLive(ctx)
	live.Known = s.known
	return live, err
}

func (s *still) Confirm(context.Context, gateway.Look) bool {
	s.confirms++
	return false
}

func (*still) Lost() {}

func (*still) Done(context.Context, gateway.Look) (bool, error) { return true, nil }

// Rules that a change of the table overtook are not committed. After two such attempts
// notifications wait, so that an endless storm of them leaves one attempt in peace. They wait
// for rules that were read too, because those are told from the wanted ones once.
func TestOvertakenRulesAreNotCommitted(t *testing.T) {
	dir := t.TempDir()
	snapshot := filepath.Join(dir, "snapshot.json")
	f, err := os.Create(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(xfrm.Snapshot{Schema: xfrm.SchemaVersion}.WriteJSON(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	g, err := gateway.OpenWithoutPrograms(gateway.Options{
		Dirs: rundir.Dirs{Run: filepath.Join(dir, "run"), State: filepath.Join(dir, "lib")}, Config: filepath.Join(dir, "none.yaml"), Snapshot: snapshot,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		known bool
		// changed are the attempts in which the table changes.
		changed        map[int]bool
		asked, commits int
	}{
		{"rules that were read", false, map[int]bool{1: true}, 0, attempts},
		{"never", true, nil, 2, attempts},
		{"at first", true, map[int]bool{1: true}, 2, attempts - 1},
		{"always", true, map[int]bool{1: true, 2: true, 3: true}, 2, attempts - 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, asked := &still{g: g, known: tt.known}, 0
			_, err := Loop(context.Background(), g, s, Options{Beside: func(work func()) bool {
				asked++
				work()
				return tt.changed[asked]
			}})
			if !errors.Is(err, ErrBusy) || s.lives != attempts || asked != tt.asked || s.confirms != tt.commits {
				t.Errorf("%d attempts, of which %d were watched and %d were to be committed, want %d and %d: %v", s.lives, asked, s.confirms, tt.asked, tt.commits, err)
			}
		})
	}
}
