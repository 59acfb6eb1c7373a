package proof

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove"
)

// The formats of the outcomes of tests: Test Anything Protocol 14, and JUnit's XML.
const (
	TAP   = "tap"
	JUnit = "junit"
)

// WriteTests writes the outcomes of tests in a format, and reports whether all held.
func WriteTests(w io.Writer, format string, outcomes []prove.Outcome, m firewall.Marks) (bool, error) {
	held := true
	for _, o := range outcomes {
		held = held && o.Held
	}
	if format == JUnit {
		return held, writeJUnit(w, outcomes, m)
	}
	return held, writeTAP(w, outcomes, m)
}

// detail is the expectation, the verdict and the packet of a test that failed, a line
// each.
func detail(o prove.Outcome, m firewall.Marks) []string {
	lines := []string{"expect: " + o.Test.Expect.String(), "got:    " + o.Got}
	if o.Packet != nil {
		lines = append(lines, "packet: "+prove.Describe(*o.Packet), "see:    "+Explain(*o.Packet, m))
	}
	return lines
}

func writeTAP(w io.Writer, outcomes []prove.Outcome, m firewall.Marks) error {
	var b strings.Builder
	fmt.Fprintf(&b, "TAP version 14\n1..%d\n", len(outcomes))
	for i, o := range outcomes {
		word := "ok"
		if !o.Held {
			word = "not ok"
		}
		fmt.Fprintf(&b, "%s %d - %s\n", word, i+1, o.Test.Name)
		if o.Held {
			continue
		}
		for _, line := range detail(o, m) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type suite struct {
	XMLName  xml.Name   `xml:"testsuite"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Cases    []testCase `xml:"testcase"`
}

type testCase struct {
	Name    string   `xml:"name,attr"`
	Class   string   `xml:"classname,attr"`
	Failure *failure `xml:"failure"`
}

type failure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func writeJUnit(w io.Writer, outcomes []prove.Outcome, m firewall.Marks) error {
	s := suite{Name: "xfrmfw", Tests: len(outcomes)}
	for _, o := range outcomes {
		c := testCase{Name: o.Test.Name, Class: "xfrmfw"}
		if !o.Held {
			s.Failures++
			c.Failure = &failure{Message: "got " + o.Got, Text: strings.Join(detail(o, m), "\n")}
		}
		s.Cases = append(s.Cases, c)
	}
	form, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, form)
	return err
}
