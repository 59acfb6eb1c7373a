package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Limits of a package, so that a reader can take it in.
const (
	mostKnotted   = 8   // files that need each other, directly or by way of others
	mostFileLines = 400 // of a file
	mostFiles     = 25  // without tests
	mostLines     = 3000
)

// goPackage is the part of the output of go list about one package.
type goPackage struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// A measured package.
type measured struct {
	name    string
	files   int
	lines   int
	longest int
	knot    []string
}

func (m measured) String() string {
	return fmt.Sprintf("%s: %d files, %d lines, at most %d in a file; largest knot %d %v", m.name, m.files, m.lines, m.longest, len(m.knot), m.knot)
}

// TestPackagesAreNoKnots measures each package by its types: a file needs another if it
// uses an object, a field or a method that is declared there.
func TestPackagesAreNoKnots(t *testing.T) {
	out, err := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles", module+"/...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	exports := make(map[string]string)
	var ours []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if strings.HasPrefix(p.ImportPath, module+"/") {
			ours = append(ours, p)
		}
	}
	for _, p := range ours {
		m, err := measure(p, exports)
		if err != nil {
			t.Fatalf("%s: %v", p.ImportPath, err)
		}
		t.Log(m)
		if len(m.knot) > mostKnotted || m.longest > mostFileLines || m.files > mostFiles || m.lines > mostLines {
			t.Errorf("%s: the limits are %d files that need each other, %d lines a file, %d files, %d lines", m, mostKnotted, mostFileLines, mostFiles, mostLines)
		}
	}
}

func measure(p goPackage, exports map[string]string) (measured, error) {
	m := measured{name: strings.TrimPrefix(p.ImportPath, module+"/")}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return m, err
		}
		lines := fset.File(f.FileStart).LineCount() - 1
		m.files, m.lines, m.longest = m.files+1, m.lines+lines, max(m.longest, lines)
		files = append(files, f)
	}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object), Selections: make(map[*ast.SelectorExpr]*types.Selection)}
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
	pkg, err := conf.Check(p.ImportPath, fset, files, info)
	if err != nil {
		return m, err
	}
	needs := make(map[string]map[string]bool)
	for id, o := range info.Uses {
		if o.Pkg() != pkg {
			continue
		}
		from, to := filepath.Base(fset.Position(id.Pos()).Filename), filepath.Base(fset.Position(o.Pos()).Filename)
		if needs[from] == nil {
			needs[from] = make(map[string]bool)
		}
		needs[from][to] = true
	}
	for _, a := range p.GoFiles {
		var knot []string
		for _, b := range p.GoFiles {
			if reaches(needs, a, b) && reaches(needs, b, a) {
				knot = append(knot, b)
			}
		}
		if len(knot) > len(m.knot) {
			m.knot = knot
		}
	}
	return m, nil
}

// reaches reports whether one file needs another, directly or by way of others.
func reaches(needs map[string]map[string]bool, from, to string) bool {
	seen := []string{from}
	for i := 0; i < len(seen); i++ {
		if seen[i] == to && (i > 0 || from == to) {
			return true
		}
		for next := range needs[seen[i]] {
			if !slices.Contains(seen, next) {
				seen = append(seen, next)
			}
		}
	}
	return false
}
