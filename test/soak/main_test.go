// Package soak has the campaigns that need real tunnels and more time than a test may take. scripts/soak runs them, in
// the virtual machine of scripts/lab; without XFRMFW_SOAK there is nothing in it.
package soak

import (
	"fmt"
	"os"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv("XFRMFW_SOAK") == "" {
		return
	}
	if missing := lab.Missing(); missing != "" {
		fmt.Fprintln(os.Stderr, "soak:", missing)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
