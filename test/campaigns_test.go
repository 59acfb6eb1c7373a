package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCampaignsFindTheirTests holds the patterns of scripts/soak to the tests that there are: each alternative of a pattern
// names a test of one of its packages, and a campaign that runs a pattern has a test in each. A test that was renamed or
// moved would leave a campaign empty, which passes.
func TestCampaignsFindTheirTests(t *testing.T) {
	script, err := os.ReadFile("../scripts/soak")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(script), "\nselections='\n")
	table, rest, found := strings.Cut(table, "\n'\n")
	if !found {
		t.Fatal("scripts/soak has no table of selections")
	}
	for line := range strings.Lines(table) {
		row := strings.Fields(line)
		if len(row) < 4 || row[1] != "run" && row[1] != "skip" {
			t.Errorf("want name, run or skip, pattern and packages: %s", line)
			continue
		}
		name, word, pattern, packages := row[0], row[1], row[2], row[3:]
		var all []string
		for _, dir := range packages {
			tests := testsOf(t, dir)
			all = append(all, tests...)
			if word == "run" && !matches(t, pattern, tests) {
				t.Errorf("%s: no test of %s matches %s", name, dir, pattern)
			}
		}
		for alternative := range strings.SplitSeq(top(pattern), "|") {
			if !matches(t, alternative, all) {
				t.Errorf("%s: no test of %v matches %s", name, packages, alternative)
			}
		}
	}
	for _, pattern := range regexp.MustCompile(`-(?:test\.)?(?:run|skip) ['"]?\^?\w*Test\w*`).FindAllString(rest, -1) {
		t.Errorf("scripts/soak: %s: its place is the table of selections", pattern)
	}
}

// TestSystemsNameSelections holds the last column of scripts/systems to the names in scripts/soak.
func TestSystemsNameSelections(t *testing.T) {
	script, err := os.ReadFile("../scripts/soak")
	if err != nil {
		t.Fatal(err)
	}
	systems, err := os.ReadFile("../scripts/systems")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(systems)) {
		row := strings.Fields(line)
		if strings.HasPrefix(line, "#") || len(row) == 0 {
			continue
		}
		if name := row[len(row)-1]; !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` +(run|skip) `).Match(script) {
			t.Errorf("scripts/soak has no selection %s: %s", name, line)
		}
	}
}

// top is the part of a pattern of go test that is about tests and not their subtests.
func top(pattern string) string {
	top, _, _ := strings.Cut(pattern, "/")
	return top
}

// matches reports whether a pattern of go test matches one of the tests.
func matches(t *testing.T, pattern string, tests []string) bool {
	t.Helper()
	expression, err := regexp.Compile(top(pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		if expression.MatchString(test) {
			return true
		}
	}
	return false
}

// testsOf are the tests and fuzz targets of the package in a folder of this repository.
func testsOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var tests []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(text, -1) {
			tests = append(tests, string(match[1]))
		}
	}
	return tests
}
