package lab

import (
	"fmt"
	"os"
	"testing"
)

// Main is the TestMain of a package of tests for the lab. It fails at once where the lab
// is required and a part of it is missing. Where the lab is not required, the tests skip
// themselves.
func Main(m *testing.M) {
	if missing := Missing(); missing != "" && Required("lab") {
		fmt.Fprintln(os.Stderr, "lab:", missing)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
