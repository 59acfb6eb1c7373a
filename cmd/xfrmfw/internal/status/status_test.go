package status

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

func TestGolden(t *testing.T) {
	t.Parallel()
	outOfSync := func(in Input) Input {
		in.Differences = []string{"ipv4 mangle XFRMFW-SEL: rule missing: -s 10.1.0.0/24 -j MARK", "ipv4 filter INPUT: jump missing"}
		in.Daemon = Daemon{}
		return in
	}
	snapshot := func(in Input) Input {
		in.Live, in.Variant, in.Daemon, in.Warnings = nil, "", Daemon{}, nil
		return in
	}
	unloaded := func(in Input) Input {
		in.Live, in.Daemon = liveOf(t, nil), Daemon{}
		in.Differences = []string{"ipv4 mangle XFRMFW-SEL: chain missing"}
		return in
	}
	tests := []struct {
		file    string
		in      Input
		select_ []string
		options TextOptions
		json    bool
	}{
		{file: "small.txt", in: small(t)},
		{file: "rules.txt", in: small(t), select_: []string{"office"}, options: TextOptions{Rules: true}},
		{file: "unloaded.txt", in: unloaded(small(t))},
		{file: "small.json", in: small(t), json: true},
		{file: "verbose.txt", in: outOfSync(small(t)), select_: []string{"office"}, options: TextOptions{Verbose: true}},
		{file: "snapshot.txt", in: snapshot(small(t))},
		{file: "snapshot.json", in: snapshot(small(t)), select_: []string{"2"}, json: true},
		{file: "large.txt", in: large(t, 300)},
		{file: "large.json", in: large(t, 30), select_: []string{"203.0.0.4/31"}, json: true},
		{file: "large-one.txt", in: large(t, 300), select_: []string{"203.0.0.77"}},
		{file: "empty.txt", in: Input{Live: liveOf(t, nil), Variant: "nft"}},
		{file: "empty.json", in: Input{}, json: true},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			r, err := Build(tt.in).Select(tt.select_)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if tt.json {
				err = r.WriteJSON(&got)
			} else {
				err = r.WriteText(&got, tt.options)
				checkWidth(t, got.String())
			}
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tt.file, got.String())
		})
	}
}

func checkWidth(t *testing.T, page string) {
	t.Helper()
	for i, line := range strings.Split(page, "\n") {
		if n := text.Columns(line); n > lineWidth {
			t.Errorf("line %d takes %d columns: %s", i+1, n, line)
		}
		if strings.HasSuffix(line, " ") {
			t.Errorf("line %d ends in a space", i+1)
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	name := filepath.Join("testdata", file)
	if update := flag.Lookup("update"); update != nil && update.Value.String() == "true" {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), go test -update writes it anew:\n%s", name, diff)
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files anew")
	flag.Parse()
	os.Exit(m.Run())
}
