package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// TestManPages writes the manual pages, into the directory XFRMFW_MAN if it is
// set: scripts/package calls it for that. It is a test and no command, as the
// binary would carry what it takes to make them.
func TestManPages(t *testing.T) {
	dir := os.Getenv("XFRMFW_MAN")
	if dir == "" {
		dir = t.TempDir()
	}
	date := time.Unix(0, 0).UTC()
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		var seconds int64
		if _, err := fmt.Sscan(text, &seconds); err != nil {
			t.Fatalf("SOURCE_DATE_EPOCH: %v", err)
		}
		date = time.Unix(seconds, 0).UTC()
	}
	root, _ := newRoot()
	root.DisableAutoGenTag = true
	root.InitDefaultHelpCmd()
	header := &doc.GenManHeader{Section: "8", Date: &date, Source: "xfrmfw", Manual: "System Administration"}
	if err := doc.GenManTree(root, header, dir); err != nil {
		t.Fatal(err)
	}
	pages := 0
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if !c.IsAvailableCommand() && c != root {
			return
		}
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		page, err := os.ReadFile(filepath.Join(dir, name+".8"))
		if err != nil {
			t.Errorf("%s has no page: %v", c.CommandPath(), err)
			return
		}
		pages++
		plain := bytes.ReplaceAll(page, []byte(`\-`), []byte("-"))
		for _, want := range []string{".TH ", ".SH NAME\n" + name + " - ", ".SH SYNOPSIS\n", c.Short} {
			if !bytes.Contains(plain, []byte(want)) {
				t.Errorf("%s.8 lacks %q", name, want)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	if pages < 10 {
		t.Errorf("%d pages: the commands were not all walked", pages)
	}
}
