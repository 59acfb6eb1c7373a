package lab

import (
	"fmt"
	"os"
	"testing"
)

// Main is the TestMain of a package whose tests need the lab: it fails at once
// where the lab is required and something of it is missing. Where it is not
// required, the tests skip themselves.
func Main(m *testing.M) {
	if missing := Missing(); missing != "" && Required("lab") {
		fmt.Fprintln(os.Stderr, "lab:", missing)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
